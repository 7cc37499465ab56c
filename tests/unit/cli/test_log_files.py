"""Logs of the mesh's processes have a bound, though the processes never open them again."""

import re
import subprocess
import sys
from pathlib import Path
from threading import enumerate as threads

import pytest

from tidemill.cli import supervisor
from tidemill.cli.log_files import bounded_logs, shorten
from tidemill.cli.supervisor import Supervisor

BOUND, LINES = 20_000, 5_000
TALKATIVE = f"""
import sys, time
for number in range({LINES}):
    print(f"line {{number:06d}} of a process that talks much", flush=True)
    time.sleep(0.0002)
"""


def numbers(path: Path) -> list[int]:
    return [int(found) for found in re.findall(r"^line (\d+)", path.read_text(), re.MULTILINE)]


def test_a_log_that_its_process_keeps_open_stays_within_bounds(tmp_path: Path) -> None:
    log, before, largest = tmp_path / "noisy.log", tmp_path / "noisy.log.1", 0
    with log.open("ab") as out, bounded_logs(tmp_path, BOUND, seconds=0.02):
        process = subprocess.Popen([sys.executable, "-c", TALKATIVE], stdout=out)
        while process.poll() is None:
            largest = max(largest, log.stat().st_size)
    assert before.stat().st_size <= BOUND
    assert before.read_text().startswith("line ")
    assert 0 < largest < LINES * 40 / 2, "all that it wrote is far more"
    kept = numbers(before) + numbers(log)
    assert kept == sorted(kept)
    assert kept[-1] == LINES - 1
    assert len(kept) < LINES / 2


def test_a_log_within_its_bound_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "quiet.log"
    log.write_text("a line\n")
    shorten(log, BOUND)
    assert log.read_text() == "a line\n"
    assert [path.name for path in tmp_path.iterdir()] == ["quiet.log"]


def test_the_supervisor_looks_after_the_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    async def run(self: Supervisor) -> None:
        seen.extend(thread.name for thread in threads())

    monkeypatch.setenv("TIDEMILL_HOME", str(tmp_path))
    monkeypatch.setattr(Supervisor, "run", run)
    assert supervisor.main() == 0
    assert "log files" in seen
