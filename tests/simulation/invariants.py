"""What must hold whatever was broken, read from the log and the databases alone."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from aiokafka import ConsumerRecord
from google.protobuf.message import DecodeError, Message

from tests.senders import passes_over
from tests.simulation.ledgers import dump, read
from tests.simulation.nemesis import Nemesis
from tests.simulation.world import World
from tidemill.bus.dead_letters.actions import replay_dead_letters
from tidemill.bus.envelope import (
    CONSUMER,
    CONTENT_TYPE,
    DEAD_LETTER_ID,
    EVENT_ID,
    JSON,
    REASON,
    REPLAY,
    header_text,
)
from tidemill.topics import CATALOGUE, Topic

T = TypeVar("T", bound=Message)
TROUBLE_SECONDS = 25.0
REST_SECONDS = 300.0
"""In peace nothing waits for longer: every part is up, and tries are 15 seconds apart at most."""
HEALTH_SECONDS = 40
WATCH_SECONDS = 0.25
HOPELESS = ("SCHEMA_INVALID", "INVALID_ARGUMENT")
"""What the load itself sent wrong: parking it changes nothing else."""


async def under_trouble(
    world: World,
    load: Callable[[float], Awaitable[None]],
    watch: Callable[[], list[str]],
    check: Callable[[], list[str]],
) -> list[str]:
    """Load and nemesis together, then peace, then every question."""
    world.begin()
    nemesis = Nemesis(world, world.seed)
    watching = asyncio.create_task(watched(watch))
    await asyncio.gather(load(TROUBLE_SECONDS * 0.8), nemesis.torment(TROUBLE_SECONDS))
    left = await world.rest(REST_SECONDS)
    watching.cancel()
    broken = await asyncio.gather(watching, return_exceptions=True)
    seen = [f for found in broken if isinstance(found, list) for f in found]
    if left:
        return [*seen, f"stuck: {', '.join(left)}"]
    found = [*seen, *await healthy(world)]
    if world.wants_letters:
        found += await letters_replayed(world)
    found += await restarted(world)
    found += check()
    if not found and world.wants_replay:
        found += await replayed(world)
    return sorted(set(found))


async def watched(watch: Callable[[], list[str]]) -> list[str]:
    """The first thing that was seen broken; nothing when it is cancelled before."""
    try:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if found := watch():
                return found
    except asyncio.CancelledError:
        return []


async def letters_replayed(world: World) -> list[str]:
    """An operator replays every dead letter, and does it twice, not being sure of the first."""
    world.loop.trace("letters")
    first = await replay_dead_letters(world.settings.kafka, world.identity)
    left = await world.rest(REST_SECONDS)
    await replay_dead_letters(world.settings.kafka, world.identity)
    left = left or await world.rest(REST_SECONDS)
    world.loop.trace("letters", len(first.replayed), len(first.refused))
    return [f"stuck: a replay of letters {', '.join(left)}"] if left else []


async def restarted(world: World) -> list[str]:
    """Every service is started once more: start-up repairs are part of the promise."""
    for replica in world.replicas:
        if replica.wanted and replica.process is not None:
            await world.stop(replica)
    await asyncio.sleep(5.0)
    left = await world.rest(REST_SECONDS)
    return [f"stuck: after a restart {', '.join(left)}"] if left else []


async def healthy(world: World) -> list[str]:
    """In peace every service says that it serves, soon."""
    wrong: list[str] = []
    for _ in range(HEALTH_SECONDS):
        wrong = [runtime.service for runtime in world.runtimes() if not runtime.server.serving]
        if not wrong:
            return []
        await asyncio.sleep(1.0)
    return [f"health: {name} does not serve in peace" for name in wrong]


async def replayed(world: World) -> list[str]:
    """Reading every topic again from its start changes no row and publishes nothing."""
    before, length = state(world), distinct(world)
    for replica in world.replicas:
        if replica.process is not None:
            world.kill(replica.process)
    for group in world.broker.groups.values():
        group.committed.clear()
        group.members.clear()
    for service in world.rebuildable:
        # The store is lost as well: it is built again from the log, and tells nothing new.
        for file in world.rows(service).parent.glob("rows.db*"):
            file.unlink()
    world.loop.trace("replay")
    await asyncio.sleep(5.0)
    left = await world.rest(REST_SECONDS)
    if left:
        return [f"stuck: a replay {', '.join(left)}"]
    broken = [] if state(world) == before else ["replay: rows changed"]
    return broken if distinct(world) == length else [*broken, "replay: new events were published"]


def state(world: World) -> dict[str, Any]:
    """Rows of the services that keep theirs, but for the outbox, which is empty."""
    kept = [name for name in world.names if name not in world.rebuildable]
    return {name: dump(world.rows(name), ("outbox",)) for name in kept}


def distinct(world: World) -> Counter[str]:
    """How many different events each topic holds."""
    log = Log(world)
    return Counter({name: len({e.identity for e in log.events(name)}) for name in log.topics})


@dataclass(frozen=True)
class Event:
    """A record with its headers read."""

    raw: ConsumerRecord[Any, Any]
    headers: dict[str, str]

    @property
    def event_id(self) -> str:
        return self.headers.get(EVENT_ID) or self.origin

    @property
    def origin(self) -> str:
        return f"{self.raw.topic}/{self.raw.partition}/{self.raw.offset}"

    @property
    def tenant(self) -> str:
        return str((self.raw.key or b"").decode().partition("/")[0])

    @property
    def aggregate(self) -> str:
        return str((self.raw.key or b"").decode().partition("/")[2])

    @property
    def timestamp(self) -> int:
        return int(self.raw.timestamp)

    @property
    def identity(self) -> tuple[str, str, str]:
        letter = self.headers.get(DEAD_LETTER_ID, "")
        return (self.tenant, self.event_id, letter)

    def decoded(self, kind: type[T]) -> T | None:
        if self.headers.get(CONTENT_TYPE) == JSON:
            return None
        try:
            return kind.FromString(self.raw.value or b"")
        except DecodeError:
            return None


class Log:
    """Everything that lies on the broker."""

    def __init__(self, world: World) -> None:
        self._logs = world.broker.logs
        self.topics = sorted(self._logs)

    def events(self, topic: str) -> Iterator[Event]:
        for partition in self._logs[topic]:
            for raw in partition:
                yield Event(raw, header_text(raw.headers))

    def of(self, topic: Topic[Any]) -> Iterator[Event]:
        return self.events(topic.name)

    def first(self, topic: Topic[Any]) -> Iterator[Event]:
        """Each event where it lies first; what comes again under its id is a repetition."""
        seen: set[tuple[str, str]] = set()
        for event in self.of(topic):
            if (event.tenant, event.event_id) not in seen:
                seen.add((event.tenant, event.event_id))
                yield event

    @cached_property
    def letters(self) -> list[Event]:
        """What was parked, without the marks that a replay leaves."""
        names = [name for name in self.topics if name.endswith(".dlq")]
        events = [event for name in names for event in self.events(name)]
        return [event for event in events if DEAD_LETTER_ID in event.headers]

    def dead(self, service: str = "") -> list[Event]:
        """Letters of events that were right, so that their effects are missing."""
        return [
            letter
            for letter in self.letters
            if letter.headers[CONSUMER].startswith(service)
            and letter.headers[REASON] not in HOPELESS
        ]

    def effects(
        self, topic: Topic[T], kind: type[T], name: Callable[[Any], Any]
    ) -> dict[Any, dict[str, int]]:
        """What was published about each thing: event id to its first offset."""
        found: dict[Any, dict[str, int]] = {}
        for event in self.of(topic):
            message = event.decoded(kind)
            ids = found.setdefault(name(message), {})
            ids.setdefault(event.event_id, event.raw.offset)
        return found


def accounted(world: World, log: Log) -> list[str]:
    """Every record that a consumer reads is applied or dead in its inbox, and dead ones lie as
    letters."""
    broken: set[str] = set()
    letters = Counter((e.headers[CONSUMER], e.tenant, e.event_id) for e in log.letters)
    ids = {e.headers[DEAD_LETTER_ID] for e in log.letters}
    deaths = {
        (e.headers[CONSUMER], e.tenant, e.event_id, e.headers.get(REPLAY)) for e in log.letters
    }
    if len(ids) != len(deaths):
        broken.add("dead letters: one event has two letters")
    topics = {each.name: each for each in CATALOGUE}
    for group in world.broker.groups.values():
        _, service, topic = group.name.split(".", 2)
        consumer = f"{service}/{topic}"
        if passes_over(service, topics[topic]):
            continue
        replayed = {
            (e.tenant, e.event_id)
            for e in log.events(topic)
            if REPLAY in e.headers and e.headers.get(CONSUMER) == consumer
        }
        query = "SELECT tenant_id, event_id, outcome FROM inbox WHERE consumer = ?"
        rows = {(t, e): o for t, e, o in read(world.rows(service), query, consumer)}
        for event in log.events(topic):
            outcome = rows.get((event.tenant, event.event_id))
            if event.headers.get(CONSUMER, consumer) != consumer:
                continue
            lies = letters[consumer, event.tenant, event.event_id]
            if outcome is None:
                broken.add(f"lost: {consumer} has no outcome of an event")
            elif outcome == "dead" and not lies:
                broken.add(f"dead letters: {consumer} lost one")
            elif outcome == "applied" and lies and (event.tenant, event.event_id) not in replayed:
                broken.add(f"dead letters: {consumer} applied and parked an event")
    return sorted(broken)


def published_once(log: Log) -> list[str]:
    """An event that was published twice is the same event: same id, key and content."""
    for name in log.topics:
        contents: dict[Any, Any] = {}
        for event in log.events(name):
            content = (event.raw.key, event.raw.value)
            if contents.setdefault(event.identity, content) != content:
                return [f"events: one id with two contents on {name}"]
    return []
