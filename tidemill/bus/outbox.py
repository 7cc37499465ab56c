"""The relay: publishes outbox rows in order and deletes them once the broker has them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog
from sqlalchemy import delete, func, select, tuple_

from tidemill.backoff import Backoff
from tidemill.bus.tables import OutboxRow
from tidemill.db import Database
from tidemill.db.rivals import outlasting_rivals
from tidemill.faults import Fault, Reason

log = structlog.get_logger()

BATCH = 100
BATCH_BYTES = 16 * 1024 * 1024
IDLE_SECONDS = 2.0
"""Rows that an earlier process left; this one's own commits wake the relay."""
POLL_SECONDS = 0.1
"""On a server, where the commits of the service's other processes do not wake it."""
PACE_SECONDS = 0.02
BACKOFF = Backoff(0.1, 5.0)
CONFIRM_SECONDS = 30.0

# Hands a row to the producer, in order; the future ends when the broker has it.
Enqueue = Callable[[OutboxRow], Awaitable["asyncio.Future[object]"]]


class Relay:
    """Moves events from rows to Kafka. run() lasts as long as the service; of several processes on
    the same rows one moves them, else a key's events could overtake each other.

    A crash between publish and delete publishes a row twice with the same event id; consumers
    apply it once.
    """

    def __init__(self, database: Database, enqueue: Enqueue) -> None:
        self._database = database
        self._enqueue = enqueue
        self._turn = database.turn("relay")
        self._rest_seconds = IDLE_SECONDS if database.is_file else POLL_SECONDS
        self._wake = asyncio.Event()
        self._closing = False
        # Set by a turn of run() that found nothing to move.
        self.empty = asyncio.Event()

    def wake(self) -> None:
        """Called after a commit, so that an event leaves at once."""
        self._wake.set()

    async def run(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            try:
                moved = await self.move_batch() if await self._turn.held() else 0
                failures = 0
            except Exception as error:  # the relay must outlive every failure of broker and disk
                reason = error.reason.value if isinstance(error, Fault) else type(error).__name__
                failures += 1
                log.warning("outbox_relay_failed", reason=reason, failures=failures)
                if self._closing:
                    return
                await self._rest(BACKOFF.delay(failures))
                continue
            if moved:
                await self._pace()
                continue
            self.empty.set()
            if self._closing:
                return
            await self._rest(self._rest_seconds)

    def close(self) -> None:
        """run() ends once the outbox is empty or the broker fails. It is not cancelled: between
        the broker's confirmation and the delete, that would publish rows twice."""
        self._closing = True
        self._wake.set()

    async def _pace(self) -> None:
        """A lone event leaves at once; under load the next ones share a batch."""
        if not self._closing:
            await asyncio.sleep(PACE_SECONDS)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    async def move_batch(self) -> int:
        """Publish the oldest rows and delete those that the broker has; returns how many.

        Raises Fault(DEPENDENCY_UNAVAILABLE) when one of them stayed.
        """
        rows = await self._oldest()
        sent = await self._publish(rows)
        if sent:
            await self._forget(sent)
        if len(sent) < len(rows):
            raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker")
        return len(sent)

    @outlasting_rivals
    async def _forget(self, sent: Sequence[OutboxRow]) -> None:
        """Position and headers, which hold the event's id: SQLite gives a position again once the
        table is empty, so that of a relay that was frozen meanwhile may be another event's."""
        place = tuple_(OutboxRow.position, OutboxRow.headers)
        done = place.in_([(row.position, row.headers) for row in sent])
        async with self._database.transaction() as session:
            await session.execute(delete(OutboxRow).where(done))

    async def _oldest(self) -> Sequence[OutboxRow]:
        """Up to BATCH rows, and at least one, within BATCH_BYTES of values."""
        sizes = select(OutboxRow.position, func.length(OutboxRow.value))
        async with self._database.session() as session:
            found = await session.execute(sizes.order_by(OutboxRow.position).limit(BATCH))
            total, last = 0, None
            for position, size in found.all():
                total += size or 0
                if last is not None and total > BATCH_BYTES:
                    break
                last = position
            if last is None:
                return []
            rows = select(OutboxRow).where(OutboxRow.position <= last)
            return (await session.scalars(rows.order_by(OutboxRow.position))).all()

    async def _publish(self, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Those that the broker has. Enqueued one after the other: sends that wait side by side for
        room in a full batch may overtake each other, and a key's events must not."""
        futures: list[tuple[OutboxRow, asyncio.Future[object]]] = []
        latest: dict[tuple[str, bytes], asyncio.Future[object]] = {}
        failed: set[str] = set()
        for row in rows:
            earlier = latest.get((row.topic, row.key))
            if row.topic in failed or not await has_arrived(earlier):
                failed.add(row.topic)
                continue
            try:
                latest[row.topic, row.key] = await self._enqueue(row)
                futures.append((row, latest[row.topic, row.key]))
            except Fault:
                failed.add(row.topic)
        if futures:
            await asyncio.wait([future for _, future in futures], timeout=CONFIRM_SECONDS)
        return [row for row, future in futures if is_confirmed(future)]

    async def depth(self) -> int:
        """Events that wait."""
        async with self._database.session() as session:
            return (await session.scalars(select(func.count()).select_from(OutboxRow))).one()


async def has_arrived(earlier: "asyncio.Future[object] | None") -> bool:
    """Waits for the earlier event of a key. The producer gives up a batch that it could not send in
    time and goes on with the next, so two events of a key must not be with it at once."""
    if earlier is None:
        return True
    await asyncio.wait([earlier], timeout=CONFIRM_SECONDS)
    return is_confirmed(earlier)


def is_confirmed(future: "asyncio.Future[object]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
