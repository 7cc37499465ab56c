"""A log on a real broker, real services over it, and the loss of everything but the log."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from google.protobuf.message import Message

from tests.integration.rebuilding import ends
from tests.senders import subject_of
from tests.waiting import eventually
from tidemill.bus.envelope import TOKEN, event_headers
from tidemill.clock import SystemClock
from tidemill.ids import new_id
from tidemill.rpc import Channels
from tidemill.runtime import Runtime
from tidemill.settings import MeshSettings
from tidemill.topics import Topic

TENANT = "harbor"
Running = AbstractAsyncContextManager[Runtime]


@dataclass
class Mesh:
    """A broker with its log, a home, and the services that a test starts."""

    settings: MeshSettings
    producer: AIOKafkaProducer
    channels: Channels
    mint: Callable[..., str]
    run_service: Callable[..., Running]

    def service(self, name: str) -> Running:
        return self.run_service(name, self.settings, import_module(f"services.{name}.app").lifespan)

    def token(self, *scopes: str, tenant: str = TENANT) -> str:
        return self.mint(self.settings, tenant, *scopes)

    async def send(
        self,
        topic: Topic[Any],
        aggregate: str,
        message: Message | bytes,
        tenant: str = TENANT,
        event_id: str = "",
        **more: str,
    ) -> str:
        """The event as its producer writes it; returns its id."""
        headers = event_headers(topic, event_id or new_id("evt"), "test", SystemClock().now())
        headers |= {name.replace("_", "-"): text for name, text in more.items()}
        if topic.write_scope:
            headers[TOKEN] = self.mint(
                self.settings, tenant, topic.write_scope, events=True, subject=subject_of(topic)
            )
        value = message if isinstance(message, bytes) else message.SerializeToString()
        await self.producer.send_and_wait(
            topic.name,
            value,
            key=f"{tenant}/{aggregate}".encode(),
            headers=[(name, text.encode()) for name, text in headers.items()],
        )
        return headers["ce_id"]

    async def grown(self, topic: Topic[Any], count: int) -> None:
        async def holds() -> bool:
            return (await ends(self.settings))[topic.name] >= count

        await eventually(holds)


@pytest.fixture
def settings(
    broker: Any, tmp_path: Path, mesh_settings: Callable[..., MeshSettings]
) -> MeshSettings:
    return mesh_settings(tmp_path / "home", kafka=broker.bootstrap)


@pytest.fixture
async def mesh(
    settings: MeshSettings, run_service: Callable[..., Running], mint: Callable[..., str]
) -> AsyncIterator[Mesh]:
    async with AsyncExitStack() as stack:
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka, enable_idempotence=True, max_request_size=2**24
        )
        await producer.start()
        stack.push_async_callback(producer.stop)
        channels = Channels(settings)
        stack.push_async_callback(channels.close)
        yield Mesh(settings, producer, channels, mint, run_service)
