"""Producers outside the mesh: they repeat what they are not sure of, and some send rubbish."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from google.protobuf.message import Message

from tests.senders import subject_of
from tests.simulation.world import World
from tidemill.bus.envelope import CONTENT_TYPE, EVENT_ID, JSON, TOKEN, event_headers
from tidemill.security.tokens import EVENT_AUDIENCE
from tidemill.topics import M, Topic


@dataclass
class Sender:
    """promised: (topic, event id) of everything that a caller was told to be taken."""

    world: World
    random: Random
    promised: list[tuple[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    async def produce(
        self, topic: Topic[M], tenant: str, aggregate: str, message: Message, event_id: str = ""
    ) -> None:
        """Once, or more often under the same id, as a producer does that hears no answer."""
        if not event_id:
            # Producers of two tenants know nothing of each other: their ids are the same.
            self.counts[tenant] += 1
            event_id = f"e-{self.counts[tenant]}"
        value = message.SerializeToString(deterministic=True)
        copies = 1 + (self.random.random() < 0.3) + (self.random.random() < 0.1)
        for _ in range(copies):
            await self._append(topic, tenant, aggregate, value, event_id, {})
            await asyncio.sleep(self.random.choice((0.01, 0.05, 3.0)))

    async def poison(self, topic: Topic[M], tenant: str, aggregate: str) -> None:
        """No consumer can read it."""
        headers = {CONTENT_TYPE: JSON} if self.random.random() < 0.5 else {}
        event_id = f"bad-{self.random.randrange(10**9)}"
        await self._append(topic, tenant, aggregate, b"\xff\xfe rubbish", event_id, headers)

    async def _append(
        self,
        topic: Topic[M],
        tenant: str,
        aggregate: str,
        value: bytes,
        event_id: str,
        extra: dict[str, str],
    ) -> None:
        broker = self.world.broker
        while not broker.up:  # noqa: ASYNC110 - a producer asks again
            await asyncio.sleep(0.2)
        # The broker's stamp has milliseconds: two events of one moment would have no order.
        await asyncio.sleep(0.002)
        headers = event_headers(topic, event_id, "outside", self.world.clock.now()) | extra
        if topic.write_scope:
            headers[TOKEN] = self.world.identity.mint(
                tenant, [topic.write_scope], audience=EVENT_AUDIENCE, subject=subject_of(topic)
            )
        headers[EVENT_ID] = event_id
        key = f"{tenant}/{aggregate}".encode()
        raw = [(name, text.encode()) for name, text in headers.items()]
        broker.append(broker.place_of(topic.name, key), key, value, raw, self.world.loop.wall())
