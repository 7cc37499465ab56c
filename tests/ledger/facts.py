"""All that an audit reads, as one value, and the questions that it asks of it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic

from tests.ledger.books import Books, Row
from tests.ledger.log import Entry
from tests.ledger.subscriptions import consumer_name
from tests.ledger.vectors import Vectors
from tidemill.bus.envelope import EVENT_ID
from tidemill.topics import M, Topic

APPLIED, DEAD = "applied", "dead"


@dataclass(frozen=True)
class Accepted:
    """An event that the broker acknowledged to a producer of the test."""

    topic: str
    tenant_id: str
    value: bytes


@dataclass(frozen=True)
class Told(Generic[M]):
    """An event that was published, or waits in an outbox; ids count within a tenant."""

    tenant_id: str
    event_id: str
    source: str
    message: M


@dataclass(frozen=True)
class Facts:
    """services: those that ran. vectors: None when they were not read."""

    services: tuple[str, ...]
    log: Mapping[str, list[Entry]]
    committed: Mapping[str, Mapping[int, int]]
    books: Mapping[str, Books]
    vectors: Vectors | None = None
    accepted: Mapping[str, Accepted] = field(default_factory=dict)

    @cached_property
    def inboxes(self) -> dict[str, dict[tuple[str, str, str], Row]]:
        return {service: books.inbox() for service, books in self.books.items()}

    def entries(self, topic: str) -> list[Entry]:
        return list(self.log.get(topic, []))

    def rows(self, service: str, table: str) -> list[Row]:
        books = self.books.get(service)
        return books.rows(table) if books else []

    def waiting(self, topic: str) -> Iterator[Entry]:
        """Events of a topic in the outboxes of all services, without a place in the log yet."""
        for books in self.books.values():
            for row in books.rows("outbox"):
                if row["topic"] == topic:
                    headers = json.loads(row["headers"])
                    yield Entry(topic, -1, row["position"], row["key"], row["value"], headers)

    def told(self, topic: Topic[M]) -> list[Told[M]]:
        """Each event of a topic once, published or about to be; unreadable ones are left out."""
        seen: set[tuple[str, str]] = set()
        found: list[Told[M]] = []
        for entry in (*self.entries(topic.name), *self.waiting(topic.name)):
            name = (entry.tenant_id, entry.event_id)
            if name in seen:
                continue
            seen.add(name)
            message = parsed(topic, entry)
            if message is not None:
                source = entry.headers.get("ce_source", "").removeprefix("tidemill/")
                found.append(Told(entry.tenant_id, entry.event_id, source, message))
        return found

    def outcome(self, service: str, topic: str, tenant_id: str, event_id: str) -> Row | None:
        key = (f"{service}/{topic}", tenant_id, event_id)
        return self.inboxes.get(service, {}).get(key)

    def applied(self, service: str, topic: Topic[M]) -> list[Told[M]]:
        """The events of a topic that the service says it applied, refused documents included."""
        return [
            event
            for event in self.told(topic)
            if (row := self.outcome(service, topic.name, event.tenant_id, event.event_id))
            and row["outcome"] != DEAD
        ]

    def inbox_of(self, service: str, topic: Topic[Any]) -> dict[tuple[str, str], Row]:
        """Tenant and event id to row, of one consumer."""
        name = consumer_name(service, topic)
        rows = self.inboxes.get(service, {})
        return {key[1:]: row for key, row in rows.items() if key[0] == name}


def parsed(topic: Topic[M], entry: Entry) -> M | None:
    if entry.value is None or entry.headers.get(EVENT_ID) is None:
        return None
    try:
        return topic.message.FromString(entry.value)
    except Exception:  # whatever a parser says, it is no event of this topic
        return None
