"""Every event again under a new offset, once the inbox and the services have forgotten what they
may forget: nothing changes, and no fact is told that was not told before."""

import json
import random
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session

from services.monitor.handlers.counting import forget_old
from services.retriever.adapters.vector_store import VectorStore
from services.retriever.handlers.upkeep import Upkeep
from tests.any_order.history import START, Teller
from tests.any_order.houses import Street, monitor_parts, open_reader, open_street
from tests.any_order.standing import standing_of
from tests.any_order.test_any_order import start_canary
from tests.unit.retriever.world import ManualClock
from tidemill.bus import Bus
from tidemill.bus.bus import INBOX_KEPT
from tidemill.bus.envelope import EVENT_ID
from tidemill.bus.tables import InboxRow, OutboxRow

LENGTH = 60
TENANT = "harbor"
Told = dict[str, dict[tuple[str, str], bytes | None]]


async def forget(street: Street) -> None:
    """What the bus, the monitor and the retriever drop once it is old."""
    for bus in street.buses.values():
        await bus.database.write(lambda session: session.execute(delete(InboxRow)))
    monitor, retriever = street.buses["monitor"], street.buses["retriever"]
    await forget_old(monitor_parts(monitor, street.telemetry["monitor"], street.clock))
    await sweep(street, retriever)


async def sweep(street: Street, bus: Bus) -> None:
    upkeep = Upkeep(bus, street.vectors, street.clock, grace_seconds=0, staged_grace_seconds=0)
    await upkeep.reconcile()
    await upkeep.sweep()


async def told(street: Street) -> Told:
    """What each service has published: topic and event id to content."""

    def read(session: Session) -> dict[tuple[str, str], bytes | None]:
        found: dict[tuple[str, str], bytes | None] = {}
        for row in session.query(OutboxRow).order_by(OutboxRow.position):
            name = (row.topic, json.loads(row.headers)[EVENT_ID])
            assert found.setdefault(name, row.value) == row.value, name
        return found

    return {name: await bus.database.read(read) for name, bus in street.buses.items()}


@pytest.mark.parametrize("seed", [1, 2, 3, 186])
async def test_what_is_delivered_again_after_it_was_forgotten_changes_nothing(seed: int) -> None:
    history = Teller(TENANT, random.Random(seed)).tell(LENGTH)
    again = random.Random(seed + 1).sample(history, len(history))
    clock = ManualClock(START + timedelta(hours=1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            VectorStore(str(folder / "milvus.db"), 30.0) as vectors,
            open_reader() as reader,
            open_street(folder, vectors, reader, clock) as street,
        ):
            await start_canary(street, TENANT)
            await street.take(history)
            before, facts = await standing_of(street, TENANT), await told(street)
            for deliveries in (history, again):
                clock.forward(2 * INBOX_KEPT.total_seconds())
                await forget(street)
                await street.take(deliveries)
                after = await standing_of(street, TENANT)
                for part in set(before) - {"usage"}:
                    assert after[part] == before[part], part
                # The thumbs themselves are forgotten; what they count for is not.
                *sums, _, shares = after["usage"]
                *wanted, _, in_force = before["usage"]
                assert (sums, shares) == (wanted, in_force)
                assert await told(street) == facts
