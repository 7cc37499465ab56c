"""Every accepted event is applied, dead-lettered or pending at each of its consumers; never two."""

from collections import defaultdict
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from tests.ledger.facts import DEAD, Facts
from tests.ledger.log import Entry
from tests.ledger.report import Disagreement, Kind
from tests.ledger.subscriptions import consumer_name, consumers, group_id
from tidemill.bus.envelope import CONSUMER, DEAD_LETTER_ID, ORIGIN, REPLAY
from tidemill.topics import Topic


class Standing(StrEnum):
    """Where an event stands at one consumer."""

    APPLIED = "applied"
    DEAD = "dead"
    PENDING = "pending"
    LOST = "lost"


Standings = dict[tuple[str, str, str], list[Standing]]
"""Topic, tenant and event id to its standing at each consumer."""


def standings(facts: Facts) -> Standings:
    """Of every event in the log, at every consumer of its topic that ran."""
    found: Standings = defaultdict(list)
    for service, topic in consumers(facts.services):
        seen: dict[tuple[str, str], Standing] = {}
        for entry in facts.entries(topic.name):
            if entry.only_for in ("", consumer_name(service, topic)):
                name = (entry.tenant_id, entry.event_id)
                known = seen.get(name)
                # Of a record that lies there twice, the one that is not lost counts.
                if known in (None, Standing.LOST):
                    seen[name] = standing(facts, service, topic, entry)
        for (tenant, event_id), state in seen.items():
            found[topic.name, tenant, event_id].append(state)
    return found


def standing(facts: Facts, service: str, topic: Topic[Any], entry: Entry) -> Standing:
    row = facts.outcome(service, topic.name, entry.tenant_id, entry.event_id)
    # A record whose sender could not be verified stands under its place.
    row = row or facts.outcome(service, topic.name, "", entry.origin)
    if row is not None:
        return Standing.DEAD if row["outcome"] == DEAD else Standing.APPLIED
    done = facts.committed.get(group_id(service, topic), {}).get(entry.partition, 0)
    return Standing.LOST if entry.offset < done else Standing.PENDING


def passed_over(facts: Facts) -> Iterator[Disagreement]:
    """Records whose offset was committed although nothing says what became of them."""
    for service, topic in consumers(facts.services):
        name = consumer_name(service, topic)
        for entry in facts.entries(topic.name):
            mine = entry.only_for in ("", name)
            if mine and standing(facts, service, topic, entry) is Standing.LOST:
                what = f"{entry.event_id} at {entry.origin} was passed over"
                yield Disagreement(Kind.LOST, name, what)


def missing_in_log(facts: Facts) -> Iterator[Disagreement]:
    """Acknowledged events that the log does not hold, or holds with other bytes."""
    held: dict[tuple[str, str, str], bytes | None] = {}
    for topic in {event.topic for event in facts.accepted.values()}:
        for entry in facts.entries(topic):
            held[topic, entry.tenant_id, entry.event_id] = entry.value
    for event_id, event in facts.accepted.items():
        key = (event.topic, event.tenant_id, event_id)
        if key not in held:
            yield Disagreement(Kind.LOST, event.topic, f"{event_id} was acknowledged")
        elif held[key] != event.value:
            yield Disagreement(Kind.CHANGED, event.topic, f"{event_id} has other bytes")


def same_id_other_event(facts: Facts) -> Iterator[Disagreement]:
    """A record may lie in the log twice; then both must say the same."""
    for topic, entries in facts.log.items():
        values: dict[tuple[str, str, str], bytes | None] = {}
        for entry in entries:
            if topic.endswith(".dlq"):
                continue
            key = (entry.tenant_id, entry.event_id, entry.headers.get(REPLAY, ""))
            if values.setdefault(key, entry.value) != entry.value:
                yield Disagreement(Kind.CHANGED, topic, f"two events have the id {entry.event_id}")


def dead_letters(facts: Facts) -> Iterator[Disagreement]:
    """A dead event has its letter, an applied one has none that no replay healed."""
    letters = letters_by_claim(facts)
    for service, topic in consumers(facts.services):
        name = consumer_name(service, topic)
        for (tenant, event_id), row in facts.inbox_of(service, topic).items():
            replays = letters.pop((name, tenant, event_id), [])
            yield from judge(name, event_id, row["outcome"], row["replay"], replays)
    for (name, _, event_id), _ in letters.items():
        if name.partition("/")[0] in facts.services:
            yield Disagreement(Kind.UNEXPLAINED, name, f"a letter of {event_id}, which is not dead")


def judge(
    name: str, event_id: str, outcome: str, replay: int, replays: list[int]
) -> Iterator[Disagreement]:
    """replays: of each letter the number of the replay that died, 0 for the first delivery."""
    if outcome == DEAD and replay not in replays:
        yield Disagreement(Kind.LOST, name, f"{event_id} is dead and has no letter")
    if outcome != DEAD and any(parked >= replay for parked in replays):
        yield Disagreement(Kind.DOUBLED, name, f"{event_id} is applied and dead")
    if len(replays) != len(set(replays)):
        yield Disagreement(Kind.DOUBLED, name, f"{event_id} has two letters of one try")


def letters_by_claim(facts: Facts) -> dict[tuple[str, str, str], list[int]]:
    """(consumer, tenant, event id) to the replays that its letters tell of; a sender that could
    not be verified has no tenant, and its record's place is its id."""
    found: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    for topic in {topic for _, topic in consumers(facts.services)}:
        name = topic.dead_letter_name
        for entry in (*facts.entries(name), *facts.waiting(name)):
            letter = entry.headers.get(DEAD_LETTER_ID)
            if letter is None:
                continue
            consumer = entry.headers.get(CONSUMER, "")
            unverified = (consumer, "", entry.headers.get(ORIGIN, ""))
            known = facts.inboxes.get(consumer.partition("/")[0], {})
            claim = (
                unverified if unverified in known else (consumer, entry.tenant_id, entry.event_id)
            )
            # The same letter may lie there twice: its relay was killed between send and delete.
            found[claim][letter] = int(entry.headers.get(REPLAY, "0"))
    return {claim: sorted(letters.values()) for claim, letters in found.items()}
