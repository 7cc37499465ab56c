"""A unit of work: rows and events that become real together or not at all."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.message import Message
from sqlalchemy.orm import Session

from tidemill.bus.envelope import TRACEPARENT, event_headers, split_key
from tidemill.clock import Clock
from tidemill.faults import Fault, Reason
from tidemill.ids import derived_id, new_id
from tidemill.telemetry.tracing import current_traceparent
from tidemill.topics import MAX_MESSAGE_BYTES, M, Topic

# Room for the headers within what a topic takes.
MAX_VALUE_BYTES = MAX_MESSAGE_BYTES - 64 * 1024

OutboxValues = dict[str, object]
"""Columns of an outbox row, without its position."""


@dataclass
class UnitOfWork:
    """An open transaction, in a database thread. Publish puts an event into its outbox.

    cause: id of the event that is being applied, or empty. Events of a delivery get ids derived
    from it and from the consumer, so that applying the same event again publishes the same ids,
    and two consumers of one event publish different ones. rejected: why the event is not accepted,
    for whoever asks what became of it.
    """

    session: Session
    source: str
    tenant_id: str
    clock: Clock
    cause: str = ""
    consumer: str = ""
    rejected: str = ""
    outbox: list[OutboxValues] = field(default_factory=list)

    def publish(
        self,
        topic: Topic[M],
        aggregate_id: str,
        message: M,
        *,
        tenant_id: str | None = None,
        event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Queue an event; returns its id. The key is "tenant/aggregate". headers: more of them.

        Raises Fault: SCHEMA_INVALID for a key that no consumer would take, REQUEST_TOO_LARGE.
        """
        tenant = tenant_id or self.tenant_id
        key = f"{tenant}/{aggregate_id}"
        split_key(key.encode())
        identifier = event_id or self._next_id(topic.name, key)
        every = self._headers(topic, identifier) | dict(headers or {})
        self.outbox.append(outbox_values(topic.name, key, message, every))
        return identifier

    def _next_id(self, topic: str, key: str) -> str:
        if not self.cause:
            return new_id("evt")
        return published_id(self.consumer, self.cause, topic, key, len(self.outbox))

    def _headers(self, topic: Topic[M], event_id: str) -> dict[str, str]:
        headers = event_headers(topic, event_id, self.source, self.clock.now())
        traceparent = current_traceparent()
        if traceparent:
            headers[TRACEPARENT] = traceparent
        return headers


def published_id(consumer: str, cause: str, topic: str, key: str, position: int = 0) -> str:
    """Id of the event that a consumer publishes for a cause; position counts from 0."""
    return derived_id(consumer, cause, topic, key, str(position))


def outbox_values(
    topic: str, key: str, message: Message, headers: Mapping[str, str]
) -> OutboxValues:
    # Deterministic bytes: a replay of the log must give the same records.
    value = message.SerializeToString(deterministic=True)
    if len(value) > MAX_VALUE_BYTES:
        raise Fault(Reason.REQUEST_TOO_LARGE, limit=str(MAX_VALUE_BYTES), topic=topic)
    return raw_values(topic, key.encode(), value, headers)


def raw_values(
    topic: str, key: bytes, value: bytes | None, headers: Mapping[str, str]
) -> OutboxValues:
    return {"topic": topic, "key": key, "value": value, "headers": json.dumps(dict(headers))}
