"""Rounds of bad events among good ones: how fast the good go, how soon the bad are parked, and
whether they heal once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Any

from structlog.testing import capture_logs

from tests.integration.core.conftest import Outside
from tests.integration.core.parts import Base, effects, record_effect
from tests.tables import create_tables
from tidemill import topics
from tidemill.api.events.v1 import DocumentSubmitted
from tidemill.bus import Delivery
from tidemill.bus.dead_letters.actions import (
    drop_dead_letters,
    list_dead_letters,
    replay_dead_letters,
)
from tidemill.bus.dead_letters.log import DeadLetter
from tidemill.bus.dead_letters.status import State
from tidemill.clock import SystemClock
from tidemill.faults import Fault, Reason
from tidemill.runtime import Lifespan, Runtime
from tidemill.security.keys import load_or_create_key
from tidemill.security.tokens import Identity

TOPIC = topics.DOCUMENTS_SUBMITTED
CLEAN = topics.DOCUMENTS_WITHDRAWN
HANG_TIMEOUT = 1.0
ROUND_SECONDS = 100.0
BIG = b"x" * 1024 * 1024

# Bytes of the event, and the reason that it is parked with. A handler fails by a document's name.
KINDS: dict[str, tuple[bytes, str]] = {
    "broken": (b"\x0a\xff", "SCHEMA_INVALID"),
    "schema": (b"\xfa\xff\x03\x01a", "SCHEMA_INVALID"),
    "oversize": (DocumentSubmitted(content=BIG).SerializeToString(), "DOCUMENT_TOO_LARGE"),
    "crash": (b"", "INTERNAL"),
    "hang": (b"", "DEADLINE_EXCEEDED"),
}
RunService = Callable[..., AbstractAsyncContextManager[Runtime]]
_numbers = count()


@dataclass
class Handler:
    """Records effects; fails as the name of the document says, until it is fixed."""

    fixed: bool = False
    timeout: float = HANG_TIMEOUT
    good: list[float] = field(default_factory=list)
    first_try: dict[str, float] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    clock: SystemClock = field(default_factory=SystemClock)

    async def __call__(self, message: DocumentSubmitted, delivery: Delivery) -> None:
        kind = delivery.event_id.partition("-")[0]
        self.tries[delivery.event_id] += 1
        self.first_try.setdefault(delivery.event_id, self.clock.now().timestamp())
        if not self.fixed:
            await self.fail(kind)
        await record_effect(message, delivery)
        if kind == "good":
            self.good.append(self.clock.now().timestamp())

    async def fail(self, kind: str) -> None:
        if kind == "oversize":
            raise Fault(Reason.DOCUMENT_TOO_LARGE)
        if kind == "crash":
            raise ZeroDivisionError
        if kind == "hang":
            await asyncio.Event().wait()

    @asynccontextmanager
    async def lifespan(self, runtime: Runtime) -> AsyncIterator[None]:
        await create_tables(runtime.database, Base.metadata)
        runtime.bus.subscribe(TOPIC, self, timeout=self.timeout)
        yield

    def between(self, start: float, end: float) -> int:
        """Good events within that time."""
        return sum(start < moment <= end for moment in self.good)


def events_of(kinds: tuple[str, ...], total: int, every: int) -> Iterator[tuple[str, bytes]]:
    """Ids and bytes; each `every`-th event is bad, of the kinds in turn; none without a kind."""
    turns = cycle(kinds)
    for number in range(total):
        bad = kinds and number % every == every // 2
        name = next(turns) if bad else "good"
        yield f"{name}-{next(_numbers)}", KINDS[name][0] if bad else b""


async def send_all(
    outside: Outside, events: list[tuple[str, bytes]], topic: topics.Topic[Any] = TOPIC
) -> None:
    """Each event has a key of its own."""
    for event_id, value in events:
        headers = outside.headers(topic, event_id)
        raw = [(k, v if isinstance(v, bytes) else v.encode()) for k, v in headers.items()]
        key = f"acme/{event_id}".encode()
        await outside.producer.send(topic.name, value, key=key, headers=raw)
    await outside.producer.flush()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(ROUND_SECONDS):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)


async def settled(outside: Outside, ids: set[str], state: State) -> list[DeadLetter]:
    """The letters of those events, once all of them stand there."""
    found: list[DeadLetter] = []

    async def there() -> bool:
        letters = await list_dead_letters(outside.bootstrap, TOPIC.name, limit=10_000)
        found[:] = [x for x in letters if x.event_id in ids and x.state is state]
        return len(found) >= len(ids)

    await until(there)
    return found


@dataclass(frozen=True)
class Measured:
    """pace: good events of the topic with bad ones, against those of a clean topic at the same
    time. letters: those of the bad events."""

    pace: float
    handler: Handler
    clean: Handler
    letters: list[DeadLetter]

    @property
    def troubles(self) -> list[tuple[float, float]]:
        """From each bad event's first try to its dead letter."""
        first = self.handler.first_try
        tried = [x for x in self.letters if x.event_id in first]
        return [(first[x.event_id], x.parked_at.timestamp()) for x in tried]

    @property
    def slowest_seconds(self) -> float:
        return max((end - start for start, end in self.troubles), default=0.0)

    @property
    def pace_in_trouble(self) -> float:
        """Like pace, while bad events were being tried; nearly 0 for a consumer that waits."""
        good = sum(self.handler.between(*trouble) for trouble in self.troubles)
        return good / max(1, sum(self.clean.between(*trouble) for trouble in self.troubles))


async def measure(
    outside: Outside, run_service: RunService, kinds: tuple[str, ...], total: int, every: int
) -> Measured:
    """A service takes two topics, filled before it started: one has bad events, one has none.

    Side by side, whatever slows the machine slows both; a consumer that waits for a bad event
    falls behind the other.
    """
    events = list(events_of(kinds, total, every))
    bad = {event_id for event_id, _ in events if not event_id.startswith("good")}
    await send_all(outside, list(events_of((), total - len(bad), every)), CLEAN)
    await send_all(outside, events)
    handler, clean = Handler(timeout=HANG_TIMEOUT if "hang" in kinds else 60.0), Handler()

    async def all_good() -> bool:
        return len(handler.good) == len(clean.good) == total - len(bad)

    # A test's log renders stacks for people, which takes longer than the deliveries themselves.
    with capture_logs():
        async with run_service("ingest", outside.settings, side_by_side(handler, clean)):
            await until(all_good)
            letters = await settled(outside, bad, State.DEAD_LETTERED)
    return Measured(pace_of(handler, clean), handler, clean, letters)


def side_by_side(handler: Handler, clean: Handler) -> Lifespan:
    """A service with one consumer each."""

    @asynccontextmanager
    async def both(runtime: Runtime) -> AsyncIterator[None]:
        runtime.bus.subscribe(CLEAN, clean)
        async with handler.lifespan(runtime):
            yield

    return both


def pace_of(handler: Handler, clean: Handler) -> float:
    """While both had work."""
    start = max(handler.good[0], clean.good[0])
    end = min(handler.good[-1], clean.good[-1])
    return handler.between(start, end) / clean.between(start, end)


async def poison_round(
    outside: Outside, run_service: RunService, *, total: int = 60, every: int = 10
) -> dict[str, int]:
    """All kinds of bad events among good ones; a fix; a replay, twice; a drop of what no fix cures.

    Returns how many were parked, healed with exactly one effect, and dropped without any. The
    consumer of documents.submitted.v1 must be free.
    """
    mixed = list(events_of(tuple(KINDS), total, every))
    await send_all(outside, mixed)
    bad = {event_id for event_id, _ in mixed if not event_id.startswith("good")}
    curable = {x for x in bad if x.partition("-")[0] not in ("broken", "schema")}
    handler = Handler()
    async with run_service("ingest", outside.settings, handler.lifespan) as runtime:
        parked = await settled(outside, bad, State.DEAD_LETTERED)
        handler.fixed = True
        identity = Identity(
            load_or_create_key(outside.settings.home / "keys"), "operator", SystemClock()
        )
        for _ in range(2):
            for reason in {KINDS[x.partition("-")[0]][1] for x in curable}:
                await replay_dead_letters(outside.bootstrap, identity, reason=reason)
        await settled(outside, curable, State.HEALED)
        await drop_dead_letters(outside.bootstrap, by="operator", why="broken", topic=TOPIC.name)
        dropped = await settled(outside, bad - curable, State.DROPPED)
        applied = Counter(await effects(runtime))
    return {
        "dead_lettered": len({x.event_id for x in parked}),
        "healed": sum(applied[x] == 1 for x in curable),
        "dropped": sum(not applied[x.event_id] for x in dropped),
    }
