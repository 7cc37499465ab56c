"""Fixtures that every suite may use: a real broker process, settings, services and tokens."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from services.migrate import migrate
from tests import postgres
from tests.ledger.books import SERVER
from tests.ports import free_port_base
from tests.senders import OUTSIDE
from tidemill.bus.admin import create_topics
from tidemill.clock import Clock, SystemClock
from tidemill.db.migrations import HEAD
from tidemill.runtime import Lifespan, Runtime, report_health, running
from tidemill.security.keys import load_or_create_key
from tidemill.security.tokens import EVENT_AUDIENCE, RPC_AUDIENCE, Identity
from tidemill.settings import SERVICES, MeshSettings

READY_SECONDS = 30.0
ROWS = os.environ.get("TIDEMILL_TEST_ROWS", "")
ONE_WORKER = {
    "tests/integration/documents/": "model server",
    "tests/integration/inference/": "model server",
    "tests/conformance/modelserver/": "model server",
    "tests/conformance/rows/": "database server",
}


class OneWorkerAFile(LoadScopeScheduling):
    """A file's tests share a worker, and so do all that use one server: every worker would start
    its own, and two model servers starve each other. xdist's own groups do not reach the
    scheduler since pytest 9.2, which made node ids read-only."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((s for suite, s in ONE_WORKER.items() if file.startswith(suite)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneWorkerAFile:
    return OneWorkerAFile(config, log)


@dataclass
class BrokerProcess:
    """The embedded broker in a child process; its data outlives kill and start."""

    folder: Path
    port: int = 0
    options: tuple[str, ...] = ()
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> "BrokerProcess":
        arguments = ["--data-dir", str(self.folder), "--port", str(self.port)]
        command = [sys.executable, "-m", "tidemill.broker", *arguments]
        with (self.folder.parent / f"{self.folder.name}.log").open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--group-initial-delay-ms", "0", *self.options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line.startswith("ready "), f"the broker did not start: {line!r}"
        self.port = int(line.rpartition(":")[2])
        return self

    def kill(self) -> None:
        """kill -9."""
        self._end(lambda process: process.kill())

    def stop(self) -> None:
        """SIGTERM."""
        self._end(lambda process: process.terminate())

    def _end(self, signal: Callable[[subprocess.Popen[str]], None]) -> None:
        process, self.process = self.process, None
        if process is not None:
            signal(process)
            process.wait(timeout=20)
            if process.stdout:
                process.stdout.close()


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches them, but for what to test."""
    for name in [n for n in os.environ if n.startswith(("TIDEMILL_", "OTEL_"))]:
        if not name.startswith("TIDEMILL_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[Callable[..., BrokerProcess]]:
    """Start any number of brokers, each with its own folder; all end with the test."""
    started: list[BrokerProcess] = []

    def start(folder: Path | None = None) -> BrokerProcess:
        broker = BrokerProcess(folder or tmp_path / f"broker-{len(started)}")
        started.append(broker)
        return broker.start()

    yield start
    for broker in started:
        broker.kill()


@pytest.fixture
async def broker(start_broker: Callable[..., BrokerProcess]) -> BrokerProcess:
    """A fresh broker with the catalogue's topics."""
    process = start_broker()
    await create_topics(process.bootstrap)
    return process


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server, the one that is given or our own; skips where neither is."""
    yield from postgres.running()


@pytest.fixture
def mesh_settings() -> Callable[..., MeshSettings]:
    """mesh_settings(tmp_path, kafka=broker.bootstrap): own home, own free ports, own rows."""

    def make(home: Path, **overrides: Any) -> MeshSettings:
        mine = {"home": home, "port_base": free_port_base(), "db": rows_of(home)}
        return MeshSettings(**{**mine, **overrides})

    return make


def rows_of(home: Path) -> str:
    """Nothing, which means files, or a database of this home's own on the server that
    TIDEMILL_TEST_ROWS names: how the suites of the services are run on PostgreSQL."""
    server, known = ROWS, home / SERVER
    if server and not known.exists():
        home.mkdir(parents=True, exist_ok=True)
        known.write_text(postgres.empty_database(server))
        with ThreadPoolExecutor(1) as beside:  # a loop may be running here
            beside.submit(asyncio.run, migrate_all(home, known.read_text())).result()
    return known.read_text() if server else ""


async def migrate_all(home: Path, url: str) -> None:
    for service in SERVICES:
        await migrate(service, MeshSettings(home=home, db=url), HEAD)


async def retried(runtime: Runtime, reason: str) -> bool:
    """Whether a delivery was tried again for that reason."""
    found = [s for metric in runtime.telemetry.registry.collect() for s in metric.samples]
    retries = [s for s in found if s.name == "tidemill_delivery_retries_total"]
    return any(sample.labels["reason"] == reason for sample in retries)


@asynccontextmanager
async def serving(
    service: str, settings: MeshSettings, lifespan: Lifespan, clock: Clock | None = None
) -> AsyncIterator[Runtime]:
    """A service that serves and consumes."""
    async with running(service, settings, lifespan, clock) as runtime:
        async with asyncio.timeout(READY_SECONDS):
            await runtime.bus.ready()
        await report_health(runtime)
        yield runtime


@pytest.fixture
def run_service() -> Callable[..., AbstractAsyncContextManager[Runtime]]:
    """async with run_service("ingest", settings, lifespan) as runtime."""
    return serving


def token(
    settings: MeshSettings,
    tenant: str,
    *scopes: str,
    events: bool = False,
    subject: str = OUTSIDE,
) -> str:
    """Of this mesh's own key."""
    identity = Identity(load_or_create_key(settings.home / "keys"), subject, SystemClock())
    return identity.mint(tenant, scopes, audience=EVENT_AUDIENCE if events else RPC_AUDIENCE)


@pytest.fixture
def mint() -> Callable[..., str]:
    """mint(settings, tenant, scopes, events=False, subject="test")."""
    return token
