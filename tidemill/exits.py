"""How a program of the mesh ends: an exit code, and one line of error instead of a traceback."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

from tidemill.faults import Fault, StartRefused

OK, FAILED, REFUSED = 0, 1, 2
AWAY = "is what TIDEMILL_DB, TIDEMILL_KAFKA and TIDEMILL_ARTIFACTS name there?"


def exit_code(work: Coroutine[Any, Any, None]) -> int:
    """Runs it to its end. 1: a dependency failed, and a later try may succeed. 2: the start makes
    no sense as asked for."""
    try:
        asyncio.run(work)
    except StartRefused as refused:
        return told(refused.reason, refused.hint, REFUSED)
    except Fault as fault:
        return told(fault.reason.value, AWAY, FAILED)
    return OK


def told(reason: str, hint: str, code: int) -> int:
    """The last line of a program that could not do its work; answers the code."""
    sys.stderr.write(f"{reason}: {hint}\n")
    return code
