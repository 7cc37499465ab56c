"""A user who changes a thumb counts once, with the later one, in whatever order events come."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeter

from services.monitor.adapters import watches
from services.monitor.adapters.figures import Figures
from services.monitor.adapters.tables import Base, WatchRow
from services.monitor.domain.permits import Permits
from services.monitor.domain.shares import Normal, ShareWatch, observe, take_back
from services.monitor.handlers.parts import Parts
from services.monitor.handlers.sharing import THUMBS_DOWN_SHARE, watch_thumb
from services.monitor.settings import DriftRules, ShareRules
from tests.tables import commit, create_tables
from tidemill.bus import UnitOfWork
from tidemill.bus.tables import BusBase
from tidemill.clock import SystemClock
from tidemill.db import Database, open_database

RULES = ShareRules(reference=25, window=25)  # thumbs: 10 and 10
NORMAL = Normal(reference=10, window=10)
TOLD = (("a1", True, 1.0), ("a1", False, 2.0), ("a2", False, 1.0), ("a2", True, 2.0))


@dataclass
class Rows:
    """Counts thumbs as the handler does, one transaction each."""

    database: Database
    parts: Parts

    async def thumb(self, answer_id: str, up: bool, time: float) -> None:
        def work(unit: UnitOfWork) -> None:
            if watches.keep_thumb(unit, answer_id, up, time):
                watch_thumb(unit, self.parts, answer_id, "base", up=up)

        await commit(self.database, work)

    async def watch(self) -> ShareWatch:
        key = ("acme", "base", THUMBS_DOWN_SHARE)
        row = await self.database.read(lambda session: session.get(WatchRow, key))
        assert row is not None
        return watches.watch_of(row)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Rows]:
    async with open_database(f"sqlite+aiosqlite:///{folder / 'rows.db'}") as database:
        await create_tables(database, BusBase.metadata)
        await create_tables(database, Base.metadata)
        figures, nothing = Figures(NoOpMeter("m"), 1), None
        bus: Any = nothing
        yield Rows(
            database, Parts(bus, database, SystemClock(), figures, DriftRules(), RULES, 3_600.0)
        )


@pytest.mark.parametrize("order", list(permutations(TOLD)))
async def test_the_later_thumb_counts_in_any_order_and_number(
    tmp_path: Path, order: tuple[tuple[str, bool, float], ...]
) -> None:
    async with opened(tmp_path) as rows:
        for told in [*order, *order[::-1]]:
            await rows.thumb(*told)
        watch = await rows.watch()
    assert (watch.reference_n, watch.reference_k) == (2, 1)


async def test_a_thumb_of_the_window_is_taken_back_from_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as rows:
        for number in range(14):
            await rows.thumb(f"a{number}", True, 1.0)
        await rows.thumb("a12", False, 2.0)
        await rows.thumb("a3", False, 2.0)
        watch = await rows.watch()
    assert (watch.reference_n, watch.reference_k) == (10, 1)
    assert (watch.window_n, watch.window_k) == (4, 1)


def test_a_thumb_of_a_tested_window_stays_and_the_changed_one_counts_anew() -> None:
    watch = ShareWatch(Permits.full(RULES, 0.0), reference_n=10)
    for _ in range(10):
        watch, _ = observe(watch, False, NORMAL, RULES, 0.0)
    assert watch.period(NORMAL) == 2
    after, _ = observe(take_back(watch, False, 1), True, NORMAL, RULES, 0.0)
    assert (after.window_n, after.window_k) == (1, 1)
