"""A fresh start: what an earlier mesh left is moved aside, never deleted."""

import shutil
import time
from pathlib import Path

from tidemill.cli.context import Context
from tidemill.cli.control import read_status, stop_supervisor
from tidemill.settings import SERVICES

STATE_FOLDERS = (*SERVICES, "broker", "artifacts", "triton", "mlflow", "logs")


def move_state_aside(context: Context) -> Path | None:
    """Stop a running mesh and move its state to home/archive/TIME; None when there was none."""
    home = context.settings.home
    if read_status(context.settings)[0]:
        context.output.note("  stopping the mesh that is running")
        stop_supervisor(context.settings)
    folders = [home / name for name in STATE_FOLDERS if (home / name).exists()]
    if not any((home / name).exists() for name in (*SERVICES, "broker")):
        return None
    archive = home / "archive" / time.strftime("%Y%m%d-%H%M%S")
    archive.mkdir(parents=True)
    for folder in folders:
        shutil.move(str(folder), archive / folder.name)
    return archive
