"""Dead letters for people: list them, look at one, replay them to the consumer that gave up, or
drop them."""

from dataclasses import dataclass
from typing import Any

from tidemill.bus.dead_letters.log import (
    DeadLetter,
    broker_faults,
    is_replayable,
    producing,
    read_letters,
    reading,
    topic_of,
    value_of,
)
from tidemill.bus.dead_letters.status import REPLAYED, State, dropped_headers
from tidemill.bus.envelope import CONSUMER, REPLAY, SUBJECT, TOKEN, TOKEN_SUBJECT, split_key
from tidemill.faults import Fault, Reason
from tidemill.security.tokens import EVENT_AUDIENCE, Identity, service_subject
from tidemill.topics import CATALOGUE, Topic


@dataclass(frozen=True)
class DeadLetterContent:
    """A letter with its event's value (None for a tombstone), which may hold users' text."""

    letter: DeadLetter
    value: bytes | None


@dataclass(frozen=True)
class ReplayReport:
    """replayed: letters sent again. refused: letters whose sender was never verified. settled:
    letters left alone, because they were replayed already and have not died again, or because
    they were dropped."""

    replayed: tuple[DeadLetter, ...]
    refused: tuple[DeadLetter, ...]
    settled: tuple[DeadLetter, ...]


@dataclass(frozen=True)
class DropReport:
    """dropped: letters that wait no more. settled: letters left alone, because they were replayed
    or dropped already."""

    dropped: tuple[DeadLetter, ...]
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
    wanted = await choose(bootstrap, letter_id, topic, reason)
    refused = [x for x in wanted if not is_replayable(x)]
    replayable = [x for x in wanted if is_replayable(x)]
    chosen = [x for x in replayable if may_replay(x, asked=letter_id is not None)]
    settled = [x for x in replayable if x not in chosen]
    await send_again(bootstrap, identity, chosen)
    return ReplayReport(tuple(chosen), tuple(refused), tuple(settled))


def may_replay(letter: DeadLetter, *, asked: bool) -> bool:
    """asked: somebody named this letter, and not just a filter that fits it."""
    if letter.state is State.SUPERSEDED:
        return False
    return asked or letter.state is State.DEAD_LETTERED


async def choose(
    bootstrap: str, letter_id: str | None, topic: str | None, reason: str | None
) -> list[DeadLetter]:
    """The letter of that id, or the last death of each event that the filters leave.

    Raises Fault(NOT_FOUND) when no letter has that id.
    """
    letters = [
        x for x in await read_letters(bootstrap, names_of(topic)) if reason in (None, x.reason)
    ]
    if letter_id is None:
        return [x for x in letters if x.state is not State.SUPERSEDED]
    named = [x for x in letters if x.letter_id == letter_id]
    if not named:
        raise Fault(Reason.NOT_FOUND, dead_letter=letter_id[:100])
    return named


async def drop_dead_letters(
    bootstrap: str,
    *,
    by: str,
    why: str,
    letter_id: str | None = None,
    topic: str | None = None,
    reason: str | None = None,
) -> DropReport:
    """Mark letters that wait as not needed; all of them without a filter. A drop that was cut
    short is repeated without harm: only letters that still wait get a mark."""
    wanted = await choose(bootstrap, letter_id, topic, reason)
    chosen = [x for x in wanted if x.state is State.DEAD_LETTERED]
    if chosen:
        async with producing(bootstrap) as producer:
            for letter in chosen:
                headers = dropped_headers(letter.letter_id, by, why)
                await send(producer, letter.dead_letter_topic, letter.key, None, headers)
    return DropReport(tuple(chosen), tuple(x for x in wanted if x not in chosen))


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
    """The mark follows its replay: were it first, a crash between them would lose the event."""
    await send(producer, letter.topic, letter.key, value, headers)
    mark = {REPLAYED: letter.letter_id}
    await send(producer, letter.dead_letter_topic, letter.key, None, mark)


async def send(
    producer: Any, topic: str, key: bytes, value: bytes | None, headers: dict[str, str]
) -> None:
    raw = [(name, text.encode()) for name, text in headers.items()]
    async with broker_faults():
        await producer.send_and_wait(topic, value, key=key, headers=raw)


def replay_headers(letter: DeadLetter, identity: Identity) -> dict[str, str]:
    """The event's own headers, for one consumer, as the replay after the one that died."""
    headers = {
        k: v for k, v in letter.headers.items() if k == SUBJECT or not k.startswith("tidemill-")
    }
    headers |= {CONSUMER: letter.consumer, REPLAY: str(letter.replay + 1)}
    topic = topic_of(letter)
    if topic is not None and topic.write_scope:
        tenant, _ = split_key(letter.key)
        headers[TOKEN] = identity.mint(
            tenant, [topic.write_scope], audience=EVENT_AUDIENCE, subject=sender_of(letter, topic)
        )
    return headers


def sender_of(letter: DeadLetter, topic: Topic[Any]) -> str | None:
    """The subject that the record's token had. Letters of the release before do not tell it: to the
    consumers of that release every record on a topic of facts was one."""
    known = letter.headers.get(TOKEN_SUBJECT)
    if known is None and topic.takes_both:
        return service_subject(topic.owner)
    return known or None


def names_of(topic: str | None) -> list[str]:
    """Names of the dead-letter topics; a topic may be named with or without its ".dlq"."""
    names = [t.dead_letter_name for t in CATALOGUE]
    if topic is None:
        return names
    wanted = f"{topic.removesuffix('.dlq')}.dlq"
    if wanted not in names:
        raise Fault(Reason.NOT_FOUND, topic=topic[:100])
    return [wanted]
