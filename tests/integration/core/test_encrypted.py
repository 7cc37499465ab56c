"""A service that listens beyond loopback: TLS with the files that `tidemill credentials` makes."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from services.monitor.app import lifespan
from tests.conftest import BrokerProcess
from tidemill.api.monitor.v1 import GetUsageRequest, MonitorServiceStub
from tidemill.faults import Fault, Reason
from tidemill.rpc import Channels, call
from tidemill.settings import MeshSettings

CREDENTIALS = ("-c", "from tidemill.cli.main import run; run()", "credentials")
TLS = {"certificate": "tls.pem", "key": "tls-key.pem", "authority": "ca.pem"}


def command(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=dict(os.environ) | {"TIDEMILL_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
async def settings(
    tmp_path: Path,
    broker: BrokerProcess,
    mesh_settings: Callable[..., MeshSettings],
    run_service: Any,
) -> AsyncIterator[MeshSettings]:
    """Of a monitor that runs on every address of this machine."""
    made = command(tmp_path, *CREDENTIALS)
    assert made.returncode == 0, made.stderr
    files = {f"tls_{kind}": tmp_path / "keys" / name for kind, name in TLS.items()}
    open_wide = {"host": "0.0.0.0", "dev": False, **files}
    settings = mesh_settings(tmp_path, kafka=broker.bootstrap, **open_wide)
    addresses = f"monitor=localhost:{settings.grpc_port('monitor')}"
    settings = settings.model_copy(update={"service_addresses": addresses})
    async with run_service("monitor", settings, lifespan):
        yield settings


async def usage(settings: MeshSettings, mint: Callable[..., str]) -> Any:
    channels = Channels(settings)
    try:
        stub = MonitorServiceStub(channels.to("monitor"))
        token = mint(settings, "acme", "alerts:read")
        return await call(stub.GetUsage, GetUsageRequest(), token=token, timeout=5.0)
    finally:
        await channels.close()


async def test_who_trusts_the_authority_is_answered(
    settings: MeshSettings, mint: Callable[..., str]
) -> None:
    assert (await usage(settings, mint)).cost_micros == 0


async def test_who_speaks_plainly_or_trusts_another_authority_is_not(
    settings: MeshSettings, mint: Callable[..., str], tmp_path: Path
) -> None:
    command(tmp_path / "other", *CREDENTIALS)
    for authority in (None, tmp_path / "other" / "keys" / "ca.pem"):
        stranger = settings.model_copy(update={"tls_authority": authority})
        with pytest.raises(Fault) as caught:
            await usage(stranger, mint)
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_the_health_check_of_a_container_tells_who_serves(settings: MeshSettings) -> None:
    environment = {
        "TIDEMILL_PORT_BASE": str(settings.port_base),
        "TIDEMILL_TLS_AUTHORITY": str(settings.tls_authority),
    }

    def check(name: str, **changes: str) -> int:
        done = command(settings.home, "-m", "services.health", name, **environment | changes)
        assert "Traceback" not in done.stderr
        return done.returncode

    assert await asyncio.to_thread(check, "monitor") == 0
    assert await asyncio.to_thread(check, "trainer") == 1
    assert await asyncio.to_thread(check, "nobody") == 2
