"""The training process: one run, its outcome in the run folder, its record in MLflow.

    python -m services.trainer.adapters.training RUN_FOLDER [NICENESS]

Several of them, started by torchrun, train one run together: the first does all the writing.

Exit status 0 when result.json is there, 1 after failure.json, 3 when the service went away.
"""

import errno
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.trainer.adapters import run_folder
from services.trainer.adapters.run_folder import Failure

LOCK_SECONDS = 60.0
LOCK_POLL_SECONDS = 0.1
ORPHANED_STATUS = 3


class RunLocked(Exception):
    """Another process trains this run and does not let go."""


def main(folder: Path) -> int:
    return lead(folder) if os.environ.get("RANK", "0") == "0" else assist(folder)


def assist(folder: Path) -> int:
    """What comes of it is in the first process's hands; so is the reason when it fails."""
    from services.trainer.adapters import finetune

    if run_folder.read_result(folder) is not None:
        return 0
    try:
        finetune.finetune(folder)
    except finetune.Orphaned:
        return ORPHANED_STATUS
    except Exception as error:
        sys.stderr.write(f"training_failed {place_of(error)}\n")
        return 1
    return 0


def lead(folder: Path) -> int:
    from services.trainer.adapters import finetune, tracking  # torch takes seconds to import

    with locked(folder):
        if run_folder.read_result(folder) is None:
            (folder / run_folder.FAILURE).unlink(missing_ok=True)
            try:
                finetune.finetune(folder)
            except finetune.Orphaned:
                return ORPHANED_STATUS
            except Exception as error:
                run_folder.write_failure(folder, failure_of(error))
                sys.stderr.write(f"training_failed {place_of(error)}\n")
                return 1
    try:
        tracking.record(folder)
    except Exception as error:  # a lost record must not lose the adapter
        sys.stderr.write(f"tracking_failed {place_of(error)}\n")
    return 0


def failure_of(error: Exception) -> Failure:
    """Machine-readable reason, and whether another try would fail in the same way."""
    reasons = {"LossDiverged": "LOSS_DIVERGED", "NothingToLearn": "NO_EXAMPLE_FITS"}
    name = type(error).__name__
    if name in reasons:
        return Failure(reasons[name], final=True)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure("STORAGE_FULL", final=False)
    if isinstance(error, MemoryError):
        return Failure("OUT_OF_MEMORY", final=False)
    if isinstance(error, OSError):
        return Failure("FILES_UNREADABLE", final=False)
    return Failure("TRAINING_CRASHED", final=False)


def place_of(error: Exception) -> str:
    """Type and place: an error's text may quote what users wrote."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__} {where}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process a folder: the one that a killed service left behind stops at its next step."""
    deadline = time.monotonic() + LOCK_SECONDS
    with (folder / ".lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise RunLocked from error
                time.sleep(LOCK_POLL_SECONDS)
        yield


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the service
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # or a GPU's sums change from run to run
    os.nice(int(sys.argv[2]) if len(sys.argv) > 2 else 0)  # serving comes first
    sys.exit(main(Path(sys.argv[1])))
