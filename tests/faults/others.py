"""Figures of the other fault suites, asked of their own commands, and what went wrong there."""

import asyncio
import importlib.util
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GRACE_SECONDS = 600.0
"""A suite may do a fixed part, such as looking for planted bugs, on top of its time."""


@dataclass(frozen=True)
class Suite:
    """A command `python -m MODULE --seconds S --json FILE`. key: what it fills; part: the key in
    its own file, or empty for all of it; share: of the time."""

    key: str
    module: str
    part: str
    share: float


SUITES = (
    Suite("simulation", "tests.simulation", "", 0.10),
    Suite("zombie_writes", "tests.outages", "zombie_writes", 0.05),
    Suite("dlq", "tests.poison", "dlq", 0.05),
)


@dataclass(frozen=True)
class Answer:
    """figures: null when there are none. why: what went wrong, or empty."""

    figures: Any = None
    why: str = ""


def present(suite: Suite) -> bool:
    """Whether the suite can be run as a command."""
    try:
        return importlib.util.find_spec(f"{suite.module}.__main__") is not None
    except ModuleNotFoundError:
        return False


async def ask(suite: Suite, seconds: float) -> Answer:
    """What the suite found in about that time."""
    if not present(suite):
        return Answer(why=f"python -m {suite.module} does not exist")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "figures.json"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", suite.module,
            "--seconds", str(round(seconds)), "--json", str(file),
        )  # fmt: skip
        try:
            async with asyncio.timeout(seconds + GRACE_SECONDS):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            return Answer(why=f"{suite.module} did not end in time")
        figures = json.loads(file.read_text()) if file.exists() else {}
    found = figures.get(suite.part) if suite.part else figures or None
    return Answer(found, f"{suite.module} ended with {code}" if code else "")
