"""Every event one to five times, in any order within a window: the same vectors, training pairs and
usage as in order and once."""

import asyncio
import os
import random
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.evaluator.adapters.tables import ReleaseRow
from services.evaluator.domain.releases import State
from services.ingest.adapters.reader import Reader
from services.retriever.adapters.vector_store import VectorStore
from tests.any_order.history import WINDOW, Event, Teller, delivered
from tests.any_order.houses import Street, open_reader, open_street
from tests.any_order.standing import standing_of

EXAMPLES = int(os.environ.get("TIDEMILL_TEST_EXAMPLES", "3"))
LENGTH = int(os.environ.get("TIDEMILL_TEST_EVENTS", "20"))
SEEDS = st.integers(0, 2**32 - 1)
_numbers = count()


async def lived(
    folder: Path, tenant_id: str, deliveries: list[Event], vectors: VectorStore, reader: Reader
) -> dict[str, Any]:
    """Where everything stands after those deliveries."""
    async with open_street(folder, vectors, reader) as street:
        await start_canary(street, tenant_id)
        await street.take(deliveries)
        return await standing_of(street, tenant_id)


async def start_canary(street: Street, tenant_id: str) -> None:
    """The evaluator's own decision, so no event of the history brings it."""
    async with street.rows["evaluator"].transaction() as session:
        row = ReleaseRow(
            tenant_id=tenant_id,
            release_id="rel_a",
            parent_id="base",
            state=State.CANARY.value,
            epoch=1,
            first_epoch=1,
            reasons=[],
            changed_at=0.0,
            content=b"",
        )
        session.add(row)


async def compare(length: int, history_seed: int, delivery_seed: int, window: int) -> None:
    """One history, twice: in order and once, and as Kafka may deliver it at its worst."""
    tenant_id = f"tenant-{next(_numbers)}"
    history = Teller(tenant_id, random.Random(history_seed)).tell(length)
    shuffled = delivered(history, random.Random(delivery_seed), window)
    with tempfile.TemporaryDirectory() as name:
        one, two = Path(name) / "one", Path(name) / "two"
        one.mkdir(), two.mkdir()
        async with (
            VectorStore(str(one / "milvus.db"), 30.0) as first,
            VectorStore(str(two / "milvus.db"), 30.0) as second,
            open_reader() as reader,
        ):
            wanted = await lived(one, tenant_id, history, first, reader)
            found = await lived(two, tenant_id, shuffled, second, reader)
    for name in wanted:
        assert found[name] == wanted[name], name


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    derandomize=EXAMPLES < 10,
    # The seeds say it all; a smaller failing history costs minutes to find.
    phases=(Phase.explicit, Phase.generate),
)
@given(st.integers(LENGTH // 2, LENGTH), SEEDS, SEEDS)
def test_order_and_number_of_deliveries_change_nothing(
    length: int, history_seed: int, delivery_seed: int
) -> None:
    asyncio.run(compare(length, history_seed, delivery_seed, WINDOW))


def test_a_long_history_comes_out_the_same() -> None:
    """Seeds whose deliveries let older submissions and withdrawals overtake newer ones."""
    asyncio.run(compare(3 * LENGTH, 186, 187, WINDOW))


def test_thumbs_that_are_changed_come_out_the_same() -> None:
    """Seeds whose deliveries bring two users' later thumb before their earlier one."""
    asyncio.run(compare(12, 55, 56, WINDOW))
