"""The relay: publishes outbox rows in order and deletes them once the broker keeps them."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import structlog
from aiokafka import errors
from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.orm import Session

from tidemill.backoff import Backoff
from tidemill.bus.envelope import EVENT_ID
from tidemill.bus.tables import OutboxRow
from tidemill.db import Database
from tidemill.db.rivals import outlasting_rivals
from tidemill.faults import Fault, Reason

log = structlog.get_logger()

BATCH = 500
BATCH_BYTES = 16 * 1024 * 1024
POLL_SECONDS = 0.1
"""On a server, where the commits of the service's other processes do not wake the relay."""
PACE_SECONDS = 0.005
BACKOFF = Backoff(0.1, 5.0)
CONFIRM_SECONDS = 30.0
SYNCED_SECONDS = 2.0
"""The embedded broker answers before its disk has the record, which takes it a second at most.
Rows in a file, on the same machine, stay for so long, and outlive a power cut that it does not."""
REFUSED_RETRY_SECONDS = 60.0
REFUSALS = (
    errors.InvalidTopicError,
    errors.MessageSizeTooLargeError,
    errors.PolicyViolationError,
    errors.RecordListTooLargeError,
    errors.TopicAuthorizationFailedError,
    errors.UnsupportedForMessageFormatError,
)


@dataclass(frozen=True)
class Outgoing:
    """An event that waits to be published, read from its row."""

    position: int
    topic: str
    key: bytes
    value: bytes | None
    headers: str

    @property
    def lane(self) -> tuple[str, bytes]:
        """Events of one lane are published in their order."""
        return (self.topic, self.key)


class EventRefused(Exception):
    """The broker will not take this event, however often it is sent. reason: Kafka's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# Hands a row to the producer, in order; the future ends when the broker has it.
Enqueue = Callable[[Outgoing], Awaitable["asyncio.Future[object]"]]
OnRefused = Callable[[Outgoing, str], None]

_COLUMNS = (
    OutboxRow.position, OutboxRow.topic, OutboxRow.key, OutboxRow.value, OutboxRow.headers,
)  # fmt: skip
_SIZES = (
    select(OutboxRow.position, func.length(OutboxRow.value))
    .where(
        OutboxRow.position > bindparam("after"),
        OutboxRow.key.not_in(bindparam("refused", expanding=True)),
    )
    .order_by(OutboxRow.position)
    .limit(bindparam("most"))
)
_ROWS = select(*_COLUMNS).where(OutboxRow.position.in_(bindparam("wanted", expanding=True)))
_DELETE = delete(OutboxRow).where(OutboxRow.position.in_(bindparam("done", expanding=True)))
DELETED_AT_ONCE = 500


@dataclass
class Sent:
    """Rows that the broker has and that are still there."""

    times: deque[tuple[float, int]] = field(default_factory=deque)
    positions: set[int] = field(default_factory=set)

    def add(self, positions: Iterable[int], at: float) -> None:
        for position in positions:
            self.times.append((at, position))
            self.positions.add(position)

    def older_than(self, moment: float, most: int) -> list[int]:
        """The oldest, at most that many."""
        return [position for at, position in islice(self.times, most) if at <= moment]

    def forget(self, positions: Sequence[int]) -> None:
        """The oldest ones."""
        for position in positions:
            self.times.popleft()
            self.positions.discard(position)

    def next_time(self) -> float | None:
        return self.times[0][0] if self.times else None


class Relay:
    """Moves events from rows to Kafka. run() lasts as long as the service; of several processes on
    the same rows one moves them, else a key's events could overtake each other.

    A crash between publish and delete publishes a row twice with the same event id; consumers
    apply it once. An event that the broker refuses for good is set aside: later events of its key
    wait behind it, those of other keys go on.
    """

    def __init__(
        self, database: Database, enqueue: Enqueue, on_refused: OnRefused = lambda *_: None
    ) -> None:
        self._database = database
        self._enqueue = enqueue
        self._on_refused = on_refused
        self._turn = database.turn("relay")
        self._keep_seconds = SYNCED_SECONDS if database.is_file else 0.0
        self._rest_seconds = None if database.is_file else POLL_SECONDS
        self._sent = Sent()
        # Everything up to it was read and sent.
        self._after = 0
        # Keys with an event that the broker refuses, and the time of the loop of the next try.
        self._refused: dict[bytes, float] = {}
        self._told: set[int] = set()
        self._wake = asyncio.Event()
        self._closing = False
        self.failing_since: float | None = None
        """Time of the loop since which no batch could be moved."""
        # Set by a turn of run() that found nothing to move and nothing to delete.
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
                await self._forget_synced()
                failures, self.failing_since = 0, None
            except Exception as error:  # the relay must outlive every failure of broker and disk
                failures += 1
                self._note_failure(error, failures)
                if self._closing:
                    return
                await self._rest(BACKOFF.delay(failures))
                continue
            if moved:
                await self._pace()
                continue
            if not self._sent.positions:
                self.empty.set()
                if self._closing:
                    return
            await self._rest(self._until_next())

    def _note_failure(self, error: Exception, failures: int) -> None:
        reason = error.reason.value if isinstance(error, Fault) else type(error).__name__
        if self.failing_since is None:
            self.failing_since = asyncio.get_running_loop().time()
        log.warning("outbox_relay_failed", reason=reason, failures=failures)

    def close(self) -> None:
        """run() ends once the outbox is empty or the broker fails. It is not cancelled: between
        the broker's confirmation and the delete, that would publish rows twice."""
        self._closing = True
        self._wake.set()

    async def _pace(self) -> None:
        """A lone event leaves at once; under load the next ones share a batch."""
        if not self._closing:
            await asyncio.sleep(PACE_SECONDS)

    def _until_next(self) -> float | None:
        """Seconds until there is something to do without being woken; None for never."""
        if self._closing:
            return 0.0
        now = asyncio.get_running_loop().time()
        due = [now + self._rest_seconds] if self._rest_seconds is not None else []
        if (first := self._sent.next_time()) is not None:
            due.append(first + self._keep_seconds)
        if self._refused:
            due.append(min(self._refused.values()))
        return max(0.01, min(due) - now) if due else None

    async def _rest(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def move_batch(self) -> int:
        """Publish the oldest rows that are not published; returns how many the broker has now.

        Raises Fault(DEPENDENCY_UNAVAILABLE) when one of them stayed.
        """
        self._try_refused_again()
        rows = await self._database.read(self._oldest)
        sent, stayed = await self._publish(rows)
        self._sent.add((row.position for row in sent), asyncio.get_running_loop().time())
        self._advance(rows)
        if not self._keep_seconds:
            await self._forget_synced()
        if stayed:
            raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker")
        return len(sent)

    def _advance(self, rows: Sequence[Outgoing]) -> None:
        """In a file positions are committed in their order. On a server one that was drawn
        earlier may be committed later, so nothing is ever taken for read there."""
        if not self._database.is_file or self._refused:
            return
        for row in rows:
            if row.position not in self._sent.positions:
                return
            self._after = row.position

    def _oldest(self, session: Session) -> list[Outgoing]:
        """Up to BATCH rows that were not sent, and at least one, within BATCH_BYTES of values."""
        most = BATCH + len(self._sent.positions)
        bounds = {"after": self._after, "most": most, "refused": list(self._refused)}
        sizes = session.execute(_SIZES, bounds).all()
        total, wanted = 0, list[int]()
        for position, size in sizes:
            if position in self._sent.positions:
                continue
            total += size or 0
            if wanted and (total > BATCH_BYTES or len(wanted) == BATCH):
                break
            wanted.append(position)
        if not wanted:
            return []
        found = session.execute(_ROWS, {"wanted": wanted})
        return sorted((Outgoing(*row) for row in found), key=lambda row: row.position)

    async def _publish(self, rows: Sequence[Outgoing]) -> tuple[list[Outgoing], bool]:
        """Those that the broker has, and whether any stayed that it may take later. Enqueued one
        after the other: sends that wait side by side for room in a full batch may overtake each
        other, and a key's events must not."""
        futures: list[tuple[Outgoing, asyncio.Future[object]]] = []
        latest: dict[tuple[str, bytes], asyncio.Future[object]] = {}
        failed: set[str] = set()
        for row in rows:
            if row.topic in failed or row.key in self._refused:
                continue
            if not await has_arrived(latest.get(row.lane)):
                if refusal_of(latest[row.lane]) is None:
                    failed.add(row.topic)
                continue
            try:
                latest[row.lane] = await self._enqueue(row)
                futures.append((row, latest[row.lane]))
            except EventRefused as refused:
                self._set_aside(row, refused.reason)
            except Fault:
                failed.add(row.topic)
        if futures:
            await asyncio.wait([future for _, future in futures], timeout=CONFIRM_SECONDS)
        sent = [row for row, future in futures if is_confirmed(future)]
        unsent = [(row, future) for row, future in futures if not is_confirmed(future)]
        failed.update(row.topic for row, future in unsent if not self._is_refused(row, future))
        return sent, bool(failed)

    def _is_refused(self, row: Outgoing, future: "asyncio.Future[object]") -> bool:
        reason = refusal_of(future)
        if reason is not None:
            self._set_aside(row, reason)
        return reason is not None

    def _set_aside(self, row: Outgoing, reason: str) -> None:
        """Its key waits; it is tried again now and then, for what refuses it may be a setting."""
        log.error("event_refused", topic=row.topic, reason=reason, event_id=event_id_of(row))
        self._refused[row.key] = asyncio.get_running_loop().time() + REFUSED_RETRY_SECONDS
        if row.position not in self._told:
            self._told.add(row.position)
            self._on_refused(row, reason)

    def _try_refused_again(self) -> None:
        now = asyncio.get_running_loop().time()
        for key in [key for key, at in self._refused.items() if at <= now]:
            del self._refused[key]

    @property
    def refused(self) -> int:
        """Keys whose events wait behind one that the broker refuses."""
        return len(self._refused)

    async def _forget_synced(self) -> None:
        """Delete what the broker keeps by now; all that it has when the service stops."""
        now = asyncio.get_running_loop().time()
        before = now if self._closing else now - self._keep_seconds
        while done := self._sent.older_than(before, DELETED_AT_ONCE):
            await self._forget(done)
            self._sent.forget(done)

    @outlasting_rivals
    async def _forget(self, done: Sequence[int]) -> None:
        await self._database.write(partial(forget, done=done))

    async def depth(self) -> int:
        """Events that wait."""
        count = select(func.count()).select_from(OutboxRow)
        rows = await self._database.read(lambda session: session.scalars(count).one())
        return max(0, rows - len(self._sent.positions))


def forget(session: Session, done: Sequence[int]) -> None:
    session.connection().execute(_DELETE, {"done": list(done)})


def event_id_of(row: Outgoing) -> str:
    return str(json.loads(row.headers).get(EVENT_ID, ""))


async def has_arrived(earlier: "asyncio.Future[object] | None") -> bool:
    """Waits for the earlier event of a key. The producer gives up a batch that it could not send in
    time and goes on with the next, so two events of a key must not be with it at once."""
    if earlier is None:
        return True
    await asyncio.wait([earlier], timeout=CONFIRM_SECONDS)
    return is_confirmed(earlier)


def is_confirmed(future: "asyncio.Future[object]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def refusal_of(future: "asyncio.Future[object] | None") -> str | None:
    """Kafka's name of an error that no other try heals; None for any other end."""
    if future is None or not future.done() or future.cancelled():
        return None
    error = future.exception()
    return type(error).__name__ if isinstance(error, REFUSALS) else None
