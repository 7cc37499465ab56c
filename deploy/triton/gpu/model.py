"""NVIDIA's vLLM backend, which learns of adapters that came after its start.

Theirs reads multi_lora.json once; a new adapter would need another start of the engine. The table
only ever grows, and a name's place in it is the adapter's id: so new names go at the end.
"""

import json
import os
from typing import Any

import triton_python_backend_utils as pb_utils
from nvidia_model import TritonPythonModel as VllmModel

TABLE = "multi_lora.json"


class TritonPythonModel(VllmModel):
    """Looks at the table before each request that is checked; one stat call when nothing is new."""

    _read_at = -1

    def _verify_loras(self, request: Any) -> Any:
        if self.enable_lora:
            self._read_table()
        return super()._verify_loras(request)

    def _read_table(self) -> None:
        path = os.path.join(pb_utils.get_model_dir(), TABLE)
        changed = os.stat(path).st_mtime_ns
        if changed == self._read_at:
            return
        with open(path) as file:
            table = json.load(file)
        # In place: requests under way hold these very objects.
        self.lora_repository.update(table)
        self.supported_loras.extend(name for name in table if name not in self.supported_loras)
        self._read_at = changed
