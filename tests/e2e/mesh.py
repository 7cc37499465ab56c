"""A home for a whole mesh of its own, on its own ports, with the installed binary and weights."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ports import is_free


@dataclass(frozen=True)
class Mesh:
    """Runs `tidemill` against one home; figures come back as JSON."""

    home: Path
    port_base: int

    def run(
        self, *arguments: str, timeout: float = 120, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TIDEMILL_")}
        environment |= {
            "TIDEMILL_HOME": str(self.home),
            "TIDEMILL_PORT_BASE": str(self.port_base),
            **extra,
        }
        return subprocess.run(
            [sys.executable, "-c", "from tidemill.cli.main import run; run()", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            check=False,
        )

    def json(self, *arguments: str, timeout: float = 120) -> Any:
        """The JSON document of a command that must succeed."""
        result = self.run(*arguments, "--json", timeout=timeout)
        assert result.returncode == 0, f"{arguments}: {result.stdout}\n{result.stderr}"
        return json.loads(result.stdout)


def free_block(size: int = 40) -> int:
    """First of a block of ports that are free now."""
    for base in range(24_000 + os.getpid() % 100 * 50, 32_000, 50):
        if all(is_free(base + offset) for offset in range(size)):
            return base
    raise RuntimeError("no free block of ports")
