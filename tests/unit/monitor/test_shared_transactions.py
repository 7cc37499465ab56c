"""Answers and thumbs whose works share a transaction: the same rows as one by one, for less."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.metrics import NoOpMeter
from sqlalchemy import Engine, event

from services.monitor.adapters import counts
from services.monitor.adapters.figures import Figures
from services.monitor.adapters.tables import Base
from services.monitor.domain.answers import AnswerFacts, facts_of
from services.monitor.handlers import counting
from services.monitor.handlers.parts import Parts
from services.monitor.settings import DriftRules, ShareRules
from tests.integration.monitor.conftest import answer
from tests.tables import create_tables
from tidemill.bus import UnitOfWork
from tidemill.bus.tables import OutboxRow
from tidemill.rebuild.building import open_stage
from tidemill.rebuild.clock import at_time
from tidemill.rebuild.digests import table_hash
from tidemill.settings import MeshSettings

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ANSWERS = 120
Work = Callable[[UnitOfWork], Any]


@asynccontextmanager
async def monitor(folder: Path) -> AsyncIterator[Parts]:
    """Rows, and a bus that reaches no broker."""
    settings = MeshSettings(home=folder)
    async with open_stage("monitor", settings, folder) as stage:
        await create_tables(stage.database, Base.metadata)
        figures = Figures(NoOpMeter("test"), 10)
        share = ShareRules(reference=10, window=10)
        parts = (stage.bus, stage.database, stage.clock, figures, DriftRules(), share)
        yield Parts(*parts, keep_seconds=1e6)


def facts(number: int, release: int, **changed: Any) -> AnswerFacts:
    vector = np.full(8, number, dtype=np.float32)
    message = answer(f"a-{number}", NOW, release_id=f"rel_{release}", vector=vector, **changed)
    return facts_of(message)


def works(parts: Parts) -> list[Work]:
    """Answers of two releases that get worse, some twice; thumbs before and after them, some twice;
    a budget that they pass; at last a question that another model embedded."""
    answers = [facts(n, n % 2, **usual(n)) for n in range(ANSWERS)]
    small = np.full(4, 1, dtype=np.float32)
    answers.append(facts_of(answer("other-model", NOW, release_id="rel_1", vector=small)))
    found = [partial(counting._count, parts=parts, facts=each, old=False) for each in answers]
    order = random.Random(1)
    again = order.sample(found, 20)
    judged = [*range(0, ANSWERS, 2), 4, 8]
    for late in [*again, *(thumb(parts, f"a-{n}", up=n % 3 == 0) for n in judged)]:
        found.insert(order.randrange(len(found)), late)
    return [partial(counts.set_budget, budget_micros=500), *found]


def usual(number: int) -> dict[str, Any]:
    """What an answer of that number is like."""
    return {
        "refused": 40 <= number < 90,
        "finish_reason": "error" if number >= 90 else "stop",
        "seconds": 0.5 + number / 20,
        "cost": number,
    }


def thumb(parts: Parts, answer_id: str, *, up: bool) -> Work:
    said_at = NOW.timestamp() + len(answer_id) * up
    said = counting.Thumb(answer_id, up, said_at, old=False)
    return partial(counting._count_thumb, parts=parts, thumb=said)


async def rows_of(parts: Parts) -> dict[str, str]:
    tables = [mapper.class_ for mapper in Base.registry.mappers]
    return await parts.database.read(
        lambda session: {
            table.__tablename__: table_hash(session, table) for table in (*tables, OutboxRow)
        }
    )


async def test_works_that_share_a_transaction_write_what_they_write_alone(tmp_path: Path) -> None:
    async with monitor(tmp_path / "alone") as alone, monitor(tmp_path / "shared") as shared:
        with at_time(NOW):
            one_by_one = [await alone.bus.write("acme", work) for work in works(alone)]
            all_works = [shared.bus.write("acme", work) for work in works(shared)]
            together = await asyncio.gather(*all_works)
        assert together == one_by_one
        assert await rows_of(shared) == await rows_of(alone)
    told = {reason for reasons in one_by_one for reason in reasons or ()}
    assert told == {"BUDGET_EXCEEDED", "REFUSAL_SHARE", "ERROR_SHARE"}


@pytest.fixture
def statements() -> Any:
    """Every statement that any engine executes."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


async def test_a_further_answer_costs_one_statement(tmp_path: Path, statements: list[str]) -> None:
    """That of its own row; all else is read and written once."""
    async with monitor(tmp_path) as parts:

        async def statements_of(first: int, count: int) -> int:
            before = len(statements)
            await parts.database.write(partial(count_all, parts=parts, first=first, count=count))
            return len(statements) - before

        await statements_of(0, 20)
        few, many = await statements_of(100, 10), await statements_of(200, 110)
    assert many - few == 100


def count_all(session: Any, parts: Parts, first: int, count: int) -> None:
    for number in range(first, first + count):
        unit = UnitOfWork(session, "monitor", "acme", parts.clock)
        counting._count(unit, parts, facts(number, 0), False)
