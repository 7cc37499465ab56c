"""A unit of work: rows and events that become real together or not at all."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from tidemill.bus.envelope import TOKEN, TRACEPARENT, event_headers
from tidemill.bus.tables import OutboxRow
from tidemill.clock import Clock
from tidemill.ids import derived_id, new_id
from tidemill.security.tokens import EVENT_AUDIENCE, Identity
from tidemill.telemetry.tracing import current_traceparent
from tidemill.topics import M, Topic

EVENT_TOKEN_LIFETIME = timedelta(hours=24)


@dataclass
class Unit:
    """An open transaction. Publish puts an event into the outbox of the same transaction.

    cause: id of the event that is being applied, or empty. Events of a delivery get ids derived
    from it, so that applying the same event again publishes the same ids.
    """

    session: AsyncSession
    source: str
    tenant_id: str
    clock: Clock
    identity: Identity
    cause: str = ""
    published: int = field(default=0)

    def publish(
        self,
        topic: Topic[M],
        aggregate_id: str,
        message: M,
        *,
        tenant_id: str | None = None,
        event_id: str | None = None,
    ) -> str:
        """Queue an event; returns its id. The key is "tenant/aggregate"."""
        tenant = tenant_id or self.tenant_id
        key = f"{tenant}/{aggregate_id}"
        identifier = event_id or self._next_id(topic.name, key)
        headers = self._headers(topic, identifier, tenant)
        self.session.add(outbox_row(topic.name, key, message, headers))
        self.published += 1
        return identifier

    def _next_id(self, topic: str, key: str) -> str:
        if not self.cause:
            return new_id("evt")
        return derived_id(self.cause, topic, key, str(self.published))

    def _headers(self, topic: Topic[M], event_id: str, tenant: str) -> dict[str, str]:
        headers = event_headers(topic, event_id, self.source, self.clock.now())  # type: ignore[arg-type]
        traceparent = current_traceparent()
        if traceparent:
            headers[TRACEPARENT] = traceparent
        if topic.write_scope:
            headers[TOKEN] = self.identity.mint(
                tenant,
                [topic.write_scope],
                audience=EVENT_AUDIENCE,
                lifetime=EVENT_TOKEN_LIFETIME,
            )
        return headers


def outbox_row(topic: str, key: str, message: Message, headers: Mapping[str, str]) -> OutboxRow:
    # Deterministic bytes: a replay of the log must give the same records.
    value = message.SerializeToString(deterministic=True)
    return OutboxRow(topic=topic, key=key.encode(), value=value, headers=json.dumps(dict(headers)))
