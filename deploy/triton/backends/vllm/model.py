"""Stands in for Triton's vLLM backend on CPUs: same files, tensors, errors and metrics."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
from tensors import declare


class TritonPythonModel:
    """What Triton calls. The engine is imported late: Triton asks for the config in a process
    of its own, which must not load a tensor library for that."""

    @classmethod
    def auto_complete_config(cls, config: Any) -> Any:
        return declare(config)

    def initialize(self, args: dict[str, str]) -> None:
        from service import Service

        self.service = Service(Path(pb_utils.get_model_dir()), args)

    def execute(self, requests: Sequence[Any]) -> None:
        self.service.execute(requests)

    def finalize(self) -> None:
        self.service.close()
