"""A broker behind the fault proxy, and someone outside who sends through it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BrokerProcess
from tests.integration.core.conftest import Outside, producing
from tests.integration.core.conftest import eventually as eventually
from tests.outages.proxy import Proxy, proxied
from tests.outages.small_disk import small_disk as small_disk
from tests.ports import free_port_base
from tidemill.bus.admin import create_topics


@dataclass
class Wire:
    """Everyone's way to the broker leads through `proxy`."""

    proxy: Proxy
    broker: BrokerProcess
    outside: Outside


@pytest.fixture
async def wire(tmp_path: Path, mesh_settings: Any, mint: Any) -> AsyncIterator[Wire]:
    # A broker's "ready" names what it advertises, so its own port is chosen here.
    port = free_port_base()
    async with proxied(("127.0.0.1", port)) as proxy:
        options = ("--advertised", proxy.address, "--group-min-session-ms", "500")
        broker = BrokerProcess(tmp_path / "broker", port=port, options=options).start()
        try:
            await create_topics(proxy.address)
            settings = mesh_settings(tmp_path / "home", kafka=proxy.address, kafka_session_ms=2_000)
            async with producing(proxy.address) as producer:
                yield Wire(proxy, broker, Outside(proxy.address, settings, mint, producer))
        finally:
            broker.kill()
