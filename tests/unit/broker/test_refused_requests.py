"""A request that is not spoken: the log says which, so that a client can be told from it."""

import asyncio
import struct

import structlog

from tidemill.broker.embedded import EmbeddedBroker
from tidemill.broker.settings import BrokerSettings

DESCRIBE_CONFIGS = 32


async def test_the_log_names_key_version_and_client(settings: BrokerSettings) -> None:
    client = b"sarama" * 30
    with structlog.testing.capture_logs() as logs:
        async with EmbeddedBroker(settings) as broker:
            host, port = broker.bootstrap.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            request = struct.pack(">hhih", DESCRIBE_CONFIGS, 0, 1, len(client)) + client
            writer.write(struct.pack(">i", len(request) + 6) + request + b"secret")
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
    (row,) = [row for row in logs if row["event"] == "connection_refused"]
    assert (row["api_key"], row["version"]) == (DESCRIBE_CONFIGS, 0)
    assert row["client_id"] == client.decode()[:64]
    assert "secret" not in str(logs)
