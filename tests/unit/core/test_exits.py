"""A program of the mesh ends with a code and one line that says what to change."""

import pytest

from tidemill.exits import exit_code
from tidemill.faults import Fault, Reason, StartRefused


async def ending(error: Exception | None) -> None:
    if error is not None:
        raise error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (None, 0, ""),
        (Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="database"), 1, "DEPENDENCY_UNAVAILABLE"),
        (StartRefused("STORE_IS_A_FILE", "set TIDEMILL_DB"), 2, "STORE_IS_A_FILE"),
    ],
)
def test_an_expected_end_is_a_code_and_a_line(
    error: Exception | None, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(ending(error)) == code
    said = capsys.readouterr().err
    assert said.partition(":")[0] == line
    assert len(said.splitlines()) == bool(line)


def test_what_nobody_expected_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_code(ending(ZeroDivisionError()))
