"""Wall clocks that jump by an hour or back by ten minutes: no early end, no stuck timer, no second
effect."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.evaluator.adapters import evaluations
from services.evaluator.adapters.tables import Base as EvaluatorBase
from services.evaluator.adapters.tables import EvaluationRow
from services.trainer.domain.trigger import Trigger
from services.trainer.handlers import runs
from tests.integration.core.parts import effects, recording
from tests.tables import create_tables
from tests.waiting import eventually as until
from tidemill.bus.dead_letters.actions import list_dead_letters
from tidemill.clock import Stopwatch
from tidemill.db import open_database
from tidemill.faults import Fault, Reason
from tidemill.security.keys import load_or_create_key
from tidemill.security.tokens import RPC_AUDIENCE, Identity

HOUR, BACK = timedelta(hours=1), timedelta(minutes=-10)
STEPS = pytest.mark.parametrize("step", [HOUR, BACK], ids=["an hour on", "ten minutes back"])


@dataclass
class SteppingClock:
    """The machine's clocks; the wall clock can be stepped, and time can be let pass."""

    off: timedelta = timedelta()
    passed: float = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + self.off + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return time.monotonic() + self.passed


@STEPS
def test_a_stopwatch_counts_on_through_a_step(step: timedelta) -> None:
    clock = SteppingClock()
    watch, moment = Stopwatch(clock), clock.now() - timedelta(seconds=20)
    assert 20 <= watch.since("canary", moment).total_seconds() < 21
    clock.off += step
    clock.passed += 5
    assert 25 <= watch.since("canary", moment).total_seconds() < 26
    assert watch.since("another", clock.now()).total_seconds() < 1


@STEPS
async def test_an_evaluation_that_was_put_off_is_due_in_time(
    tmp_path: Path, step: timedelta
) -> None:
    clock = SteppingClock()
    async with open_database(f"sqlite+aiosqlite:///{tmp_path / 'rows.db'}") as database:
        await create_tables(database, EvaluatorBase.metadata)
        due_at = clock.now().timestamp() + 15
        async with database.transaction() as session:
            session.add(row_due(due_at))
        clock.off += step
        assert await database.read(lambda s: evaluations.next_due(s, clock.now().timestamp(), 15.0))


def row_due(due_at: float) -> EvaluationRow:
    values: dict[str, Any] = {}
    for column in EvaluationRow.__table__.columns:
        kind = column.type.python_type
        values[column.name] = kind() if not column.nullable else None
    return EvaluationRow(**{**values, "evaluation_id": "e", "done": False, "due_at": due_at})


def test_a_step_of_an_hour_is_no_quiet_hour_of_feedback() -> None:
    clock = SteppingClock()
    last = clock.now()
    place = cast(runs.Place, SimpleNamespace(clock=clock, watch=Stopwatch(clock)))
    found = cast(runs.Harvest, SimpleNamespace(last=last))
    trigger = Trigger(1, quiet=timedelta(seconds=60), overdue=timedelta(hours=1))

    def fires() -> bool:
        return trigger.fires(5, last, last, runs.now_of(place, "acme", found))

    assert not fires()
    clock.off += HOUR
    assert not fires()
    clock.passed += 61
    assert fires()


@pytest.mark.parametrize(
    ("step", "tries"),
    [(timedelta(), False), (BACK, True), (HOUR, True)],
    ids=["none", "back", "on"],
)
def test_a_training_run_is_never_put_off_by_a_step(step: timedelta, tries: bool) -> None:
    """Sooner than planned does no harm, stuck would."""
    clock = SteppingClock()
    place = cast(runs.Place, SimpleNamespace(clock=clock))
    rules = cast(runs.Rules, SimpleNamespace(retry=timedelta(seconds=10), attempts=3))
    row = cast(runs.RunRow, SimpleNamespace(retry_time=clock.now() + timedelta(seconds=20)))
    clock.off += step
    assert runs.may_retry(place, rules, row) is tries


@pytest.mark.parametrize(
    ("step", "detail"),
    [
        (timedelta(seconds=50), None),
        (timedelta(seconds=-50), None),
        (HOUR, "expired"),
        (BACK, "issued in the future"),
    ],
)
def test_a_token_stands_a_minute_of_skew_and_no_more(
    tmp_path: Path, step: timedelta, detail: str | None
) -> None:
    clock = SteppingClock()
    identity = Identity(load_or_create_key(tmp_path / "keys"), "test", clock)
    token = identity.mint("acme", ["search"])
    clock.off += step
    if detail is None:
        assert identity.verifier.verify(token, RPC_AUDIENCE).tenant_id == "acme"
        return
    with pytest.raises(Fault) as refused:
        identity.verifier.verify(token, RPC_AUDIENCE)
    assert (refused.value.reason, refused.value.metadata["detail"]) == (
        Reason.TOKEN_INVALID,
        detail,
    )


@pytest.mark.timeout(60)
async def test_events_are_applied_once_while_the_clock_of_their_service_steps(
    wire: Any, run_service: Callable[..., Any]
) -> None:
    """A service in this process, with its own clock; the senders' and the broker's stay right."""
    clock, ids = SteppingClock(), [f"event-{number}" for number in range(60)]
    async with run_service("ingest", wire.outside.settings, recording, clock) as runtime:
        for number, event_id in enumerate(ids):
            if number in (15, 30, 45):
                clock.off += HOUR if number == 15 else BACK
            await wire.outside.submit(f"doc-{number % 5}", event_id=event_id)
        async with asyncio.timeout(20):

            async def applied() -> bool:
                return len(await effects(runtime)) >= len(ids)

            await until(applied)
        assert sorted(await effects(runtime)) == sorted(ids)
        assert await runtime.bus.stalled() == []
    assert await list_dead_letters(wire.proxy.address) == []
