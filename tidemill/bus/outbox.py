"""The relay: publishes outbox rows in order and deletes them once the broker has them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from sqlalchemy import delete, select

from tidemill.bus.tables import OutboxRow
from tidemill.db import Database
from tidemill.faults import Fault

log = structlog.get_logger()

BATCH = 100
IDLE_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 5.0

Publish = Callable[[str, bytes, bytes, dict[str, str]], Awaitable[None]]


class Relay:
    """Moves events from rows to Kafka. Runs for the life of the service.

    A crash between publish and delete publishes a row twice with the same event id; consumers
    apply it once.
    """

    def __init__(self, database: Database, publish: Publish) -> None:
        self._database = database
        self._publish = publish
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Called after a commit, so that an event leaves at once."""
        self._wake.set()

    async def run(self) -> None:
        backoff = 0.1
        while True:
            try:
                moved = await self.move_batch()
                backoff = 0.1
            except Exception as error:  # the relay must outlive every failure of broker and disk
                reason = error.reason.value if isinstance(error, Fault) else type(error).__name__
                log.warning("outbox_relay_failed", reason=reason, retry_seconds=backoff)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)
                continue
            if moved < BATCH:
                await self._rest()

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), IDLE_SECONDS)
        self._wake.clear()

    async def move_batch(self) -> int:
        """Publish up to BATCH rows; returns how many."""
        async with self._database.session() as session:
            query = select(OutboxRow).order_by(OutboxRow.position).limit(BATCH)
            rows = list((await session.scalars(query)).all())
        if not rows:
            return 0
        # Awaited together: one producer keeps the order within each partition.
        await asyncio.gather(
            *(self._publish(r.topic, r.key, r.value, json.loads(r.headers)) for r in rows)
        )
        positions = [row.position for row in rows]
        async with self._database.transaction() as session:
            await session.execute(delete(OutboxRow).where(OutboxRow.position.in_(positions)))
        return len(rows)

    async def drain(self, seconds: float) -> bool:
        """Publish what is left, for at most that long; True when nothing is left."""
        try:
            async with asyncio.timeout(seconds):
                while await self.move_batch():
                    pass
        except Exception:
            return False
        return True
