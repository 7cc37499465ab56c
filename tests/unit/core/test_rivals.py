"""Work that loses a race runs again, some times; every other failure is the caller's."""

import pytest

from tidemill.db import rivals
from tidemill.db.rivals import MOST_LOST, outlasting_rivals, rival_won
from tidemill.faults import Fault, Reason


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(lost: int) -> None:
        return

    monkeypatch.setattr(rivals, "after_loss", at_once)


async def test_a_loser_runs_until_it_wins() -> None:
    runs: list[int] = []

    @outlasting_rivals
    async def work(number: int) -> int:
        runs.append(number)
        if len(runs) < 4:
            raise rival_won()
        return number

    assert await work(7) == 7
    assert runs == [7] * 4


async def test_who_always_loses_tells_the_caller_in_the_end() -> None:
    runs: list[int] = []

    @outlasting_rivals
    async def work() -> None:
        runs.append(1)
        raise rival_won()

    with pytest.raises(Fault) as caught:
        await work()
    assert caught.value.retryable
    assert len(runs) == MOST_LOST + 1


async def test_another_fault_is_not_tried_again() -> None:
    runs: list[int] = []

    @outlasting_rivals
    async def work() -> None:
        runs.append(1)
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="database")

    with pytest.raises(Fault):
        await work()
    assert runs == [1]
