"""What became of a dead letter: marks that follow it in its topic, read in their order.

A letter's own record never changes. A mark has no value; its headers name the letter (replayed,
dropped) or the event (healed), so that only the event's own consumer and key can heal a letter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from tidemill.bus.envelope import CONSUMER, EVENT_ID

REPLAYED = "tidemill-replayed"
DROPPED = "tidemill-dropped"
DROPPED_BY = "tidemill-dropped-by"
DROPPED_WHY = "tidemill-dropped-why"
HEALED = "tidemill-healed"


class State(StrEnum):
    """Where a letter stands."""

    DEAD_LETTERED = "dead_lettered"
    """Waits for somebody: neither replayed nor dropped."""
    REPLAYED = "replayed"
    """Sent again; the consumer has not told the outcome yet."""
    HEALED = "healed"
    """A replay of its event was applied."""
    DROPPED = "dropped"
    """Somebody decided that its event is not needed."""
    SUPERSEDED = "superseded"
    """Its replay died too; a later letter stands for the event."""


@dataclass(frozen=True)
class Drop:
    """Who dropped a letter, when and why."""

    by: str
    why: str
    at: datetime


@dataclass(frozen=True)
class Standing:
    """replays: how often the letter was sent again."""

    state: State = State.DEAD_LETTERED
    replays: int = 0
    drop: Drop | None = None


@dataclass(frozen=True)
class Mark:
    """A mark as it was read. letter_id is empty for "healed", which names an event by consumer,
    key and id."""

    kind: State
    letter_id: str
    consumer: str
    event: tuple[bytes, str]
    drop: Drop | None = None


def mark_of(key: bytes, headers: Mapping[str, str], at: datetime) -> Mark | None:
    """The mark that a record of a dead-letter topic is, or None for a letter."""
    event = (key, headers.get(EVENT_ID, ""))
    if HEALED in headers:
        return Mark(State.HEALED, "", headers.get(CONSUMER, ""), event)
    if REPLAYED in headers:
        return Mark(State.REPLAYED, headers[REPLAYED], "", event)
    if DROPPED in headers:
        drop = Drop(headers.get(DROPPED_BY, ""), headers.get(DROPPED_WHY, ""), at)
        return Mark(State.DROPPED, headers[DROPPED], "", event, drop)
    return None


def after(standing: Standing, mark: Mark) -> Standing:
    """A replay reopens a dropped letter; a drop after a replay changes nothing, for the event is
    on its way; what is healed or superseded stays so."""
    settled = standing.state in (State.HEALED, State.SUPERSEDED)
    if mark.kind is State.REPLAYED:
        state = standing.state if settled else State.REPLAYED
        return replace(standing, state=state, replays=standing.replays + 1)
    if mark.kind is State.DROPPED and standing.state is State.DEAD_LETTERED:
        return replace(standing, state=State.DROPPED, drop=mark.drop)
    if mark.kind is State.HEALED and not settled:
        return replace(standing, state=State.HEALED)
    return standing


def healed_headers(consumer: str, event_id: str) -> dict[str, str]:
    return {HEALED: "1", CONSUMER: consumer, EVENT_ID: event_id}


def dropped_headers(letter_id: str, by: str, why: str) -> dict[str, str]:
    return {DROPPED: letter_id, DROPPED_BY: by, DROPPED_WHY: why}
