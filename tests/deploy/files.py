"""What deploy/ says, read as its users' tools read it."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
COMPOSE = "docker-compose.yaml"
OVERLAYS = ("docker-compose.gpu.yaml",)
PROFILES = ("observability", "tools")


@cache
def composed(*overlays: str, profiles: tuple[str, ...] = PROFILES) -> dict[str, Any]:
    """What docker compose itself makes of the files; no engine is asked."""
    files = [part for name in (COMPOSE, *overlays) for part in ("-f", name)]
    chosen = [part for name in profiles for part in ("--profile", name)]
    command = [BIN / "docker-compose", *files, *chosen, "config", "--format", "json"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
    done = subprocess.run(
        command, cwd=DEPLOY, env=clean, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def text_files() -> list[Path]:
    """Every file of deploy/ that people wrote, the model server's code left out."""
    found = [
        path for path in DEPLOY.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    return [path for path in found if path.suffix not in (".py", ".pyc")]
