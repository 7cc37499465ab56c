"""What a mesh costs to start and at rest, in seconds and in processor time by process.

    python -m bench.start [--rest 60] [--starts 1]

Starts the mesh of TIDEMILL_HOME (`tidemill setup` first; it must not be running), reads what each
process has spent once all answer, waits until what a start leaves behind is done, and measures for
a while without work. Prints JSON. `seconds` is from the command to its prompt, its interpreter
included; the first start of a new home also makes tables, topics and the broker's files. On two
processors the sum of `start_cpu_s` divided by two is the bound of `seconds`. `rest_core_percent` is
the share of one processor, children included: Triton's are its backends' own processes.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import psutil

from tidemill.cli.context import Context, open_context
from tidemill.cli.control import read_status

START_TIMEOUT = 240.0
SETTLE_SECONDS = 20.0
COMMAND = (sys.executable, "-c", "from tidemill.cli.main import run; run()")
SUPERVISOR = "supervisor"


def spent(context: Context) -> dict[str, float]:
    """Processor seconds of each process of the mesh since its start, its children included, and
    of the supervisor without them."""
    supervisor, states = read_status(context.settings)
    found = {SUPERVISOR: sum(psutil.Process(supervisor).cpu_times()[:2])}
    members = {state.pid for state in states}
    for state in states:
        found[state.name] = sum(used(each) for each in family(state.pid, members))
    for pid in {each.pid for each in psutil.Process(supervisor).children()} - members:
        found[f"other {pid}"] = used(psutil.Process(pid))
    return found


def family(pid: int, members: set[int]) -> list[psutil.Process]:
    """A process and what it started, without what is a process of the mesh itself."""
    root = psutil.Process(pid)
    return [root, *(each for each in root.children(recursive=True) if each.pid not in members)]


def used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def start(context: Context) -> dict[str, Any]:
    """Seconds until the prompt, and processor seconds by process until then."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run((*COMMAND, "up", "--json"), check=True, timeout=START_TIMEOUT, stdout=sys.stderr)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"command": command, **spent(context)}
    return {
        "seconds": round(seconds, 2),
        "start_cpu_s": rounded(found, 2),
        "start_cpu_s_sum": round(sum(found.values()), 2),
    }


def stop() -> None:
    subprocess.run((*COMMAND, "down"), check=True, timeout=START_TIMEOUT, stdout=sys.stderr)


def rest(context: Context, seconds: float) -> dict[str, Any]:
    """Percent of one processor by process while nothing is asked of them."""
    time.sleep(SETTLE_SECONDS)
    before = spent(context)
    time.sleep(seconds)
    after = spent(context)
    percent = {name: 100 * (after[name] - before[name]) / seconds for name in before}
    return {
        "rest_core_percent": rounded(percent, 2),
        "rest_core_percent_sum": round(sum(percent.values()), 2),
    }


def rounded(figures: dict[str, float], digits: int) -> dict[str, float]:
    return {name: round(figure, digits) for name, figure in figures.items()}


def measure(context: Context, starts: int, seconds: float) -> dict[str, Any]:
    """The quickest of the starts, and the rest after the last one."""
    found = []
    for number in range(starts):
        found.append(start(context))
        if number < starts - 1:
            stop()
    try:
        resting = rest(context, seconds) if seconds else {}
    finally:
        stop()
    return {**min(found, key=lambda each: each["seconds"]), **resting}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rest", type=float, default=60.0, help="seconds; 0 leaves it out")
    parser.add_argument("--starts", type=int, default=1)
    options = parser.parse_args()
    context = open_context()
    if read_status(context.settings)[0]:
        sys.stderr.write("MESH_RUNS: stop it first: tidemill down\n")
        return 2
    sys.stdout.write(json.dumps(measure(context, options.starts, options.rest), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
