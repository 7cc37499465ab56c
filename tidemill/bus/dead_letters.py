"""Dead letters for people: list them, look at one, and replay them to the consumer that gave up."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import KafkaError

from tidemill.bus.envelope import CONSUMER, REPLAY, TOKEN, split_key
from tidemill.bus.letters import (
    REPLAYED,
    DeadLetter,
    is_ingress,
    producing,
    read_letters,
    reading,
    value_of,
    write_scope_of,
)
from tidemill.faults import Fault, Reason
from tidemill.security.tokens import EVENT_AUDIENCE, Identity
from tidemill.topics import CATALOGUE


@dataclass(frozen=True)
class DeadLetterContent:
    """A letter with its event's value (None for a tombstone), which may hold users' text."""

    letter: DeadLetter
    value: bytes | None


@dataclass(frozen=True)
class ReplayReport:
    """replayed: letters sent again. refused: letters whose sender was never verified. settled:
    letters left alone, because they were replayed already and have not died again."""

    replayed: tuple[DeadLetter, ...]
    refused: tuple[DeadLetter, ...]
    settled: tuple[DeadLetter, ...]


async def list_dead_letters(
    bootstrap: str, topic: str | None = None, *, limit: int = 100
) -> list[DeadLetter]:
    """The newest letters of one topic, or of all, oldest of them first.

    Raises Fault: NOT_FOUND for a topic outside the catalogue, DEPENDENCY_UNAVAILABLE.
    """
    letters = await read_letters(bootstrap, names_of(topic))
    return letters[-limit:] if limit > 0 else []


async def show_dead_letter(bootstrap: str, letter_id: str) -> DeadLetterContent:
    """The letter with that id and its event; Fault(NOT_FOUND) when there is none."""
    letters = await read_letters(bootstrap, names_of(None))
    letter = next((x for x in letters if x.letter_id == letter_id), None)
    if letter is None:
        raise Fault(Reason.NOT_FOUND, dead_letter=letter_id[:100])
    async with reading(bootstrap, [letter.dead_letter_topic]) as consumer:
        return DeadLetterContent(letter, await value_of(consumer, letter))


async def replay_dead_letters(
    bootstrap: str,
    identity: Identity,
    *,
    letter_id: str | None = None,
    topic: str | None = None,
    reason: str | None = None,
) -> ReplayReport:
    """Send letters again, each to the consumer that gave it up; all of them without a filter.

    Doing it twice applies an event once: a replay leaves a mark behind the letter, and where the
    mark is lost the consumer's inbox knows the event. A letter asked for by its id is sent again
    whatever its marks say.
    """
    letters = latest(await read_letters(bootstrap, names_of(topic)))
    wanted = [x for x in letters if letter_id in (None, x.letter_id) and reason in (None, x.reason)]
    if letter_id is not None and not wanted:
        raise Fault(Reason.NOT_FOUND, dead_letter=letter_id[:100])
    refused = [x for x in wanted if not is_replayable(x)]
    settled = [x for x in wanted if is_replayable(x) and x.replays and letter_id is None]
    chosen = [x for x in wanted if x not in refused and x not in settled]
    await send_again(bootstrap, identity, chosen)
    return ReplayReport(tuple(chosen), tuple(refused), tuple(settled))


def latest(letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    """The last death of each event at each consumer. An unverified record may carry another
    event's id, so it never stands for that event."""
    deaths = {(x.consumer, x.key, x.event_id, is_replayable(x)): x for x in letters}
    return list(deaths.values())


def is_replayable(letter: DeadLetter) -> bool:
    """False when the sender of an outsiders' event was never verified: an operator's wish to try
    again does not vouch for anybody."""
    if not is_ingress(letter.topic):
        return True
    try:
        split_key(letter.key)
    except Fault:
        return False
    return letter.reason not in UNVERIFIED


UNVERIFIED = (
    Reason.TOKEN_MISSING.value,
    Reason.TOKEN_INVALID.value,
    Reason.SCOPE_MISSING.value,
    Reason.TENANT_MISMATCH.value,
)


async def send_again(bootstrap: str, identity: Identity, letters: list[DeadLetter]) -> None:
    if not letters:
        return
    names = sorted({x.dead_letter_topic for x in letters})
    async with reading(bootstrap, names) as consumer, producing(bootstrap) as producer:
        for letter in letters:
            value = await value_of(consumer, letter)
            await send_one(producer, letter, value, replay_headers(letter, identity))


async def send_one(
    producer: Any, letter: DeadLetter, value: bytes | None, headers: dict[str, str]
) -> None:
    raw = [(name, text.encode()) for name, text in headers.items()]
    mark = [(REPLAYED, letter.letter_id.encode())]
    try:
        await producer.send_and_wait(letter.topic, value, key=letter.key, headers=raw)
        await producer.send_and_wait(letter.dead_letter_topic, None, key=letter.key, headers=mark)
    except KafkaError as error:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker") from error


def replay_headers(letter: DeadLetter, identity: Identity) -> dict[str, str]:
    """The event's own headers, for one consumer, as the replay after the one that died."""
    headers = {k: v for k, v in letter.headers.items() if not k.startswith("tidemill-")}
    headers |= {CONSUMER: letter.consumer, REPLAY: str(letter.replay + 1)}
    scope = write_scope_of(letter.topic)
    if scope:
        tenant, _ = split_key(letter.key)
        headers[TOKEN] = identity.mint(tenant, [scope], audience=EVENT_AUDIENCE)
    return headers


def names_of(topic: str | None) -> list[str]:
    """Names of the dead-letter topics; a topic may be named with or without its ".dlq"."""
    names = [t.dead_letter_name for t in CATALOGUE]
    if topic is None:
        return names
    wanted = f"{topic.removesuffix('.dlq')}.dlq"
    if wanted not in names:
        raise Fault(Reason.NOT_FOUND, topic=topic[:100])
    return [wanted]
