"""Everything a service stands on, opened in order and closed in reverse."""

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import structlog

from tidemill.bus import Bus, open_bus
from tidemill.clock import Clock, SystemClock
from tidemill.db import Database, open_database
from tidemill.faults import Fault, StartRefused
from tidemill.rebuild import files
from tidemill.rpc import Channels, RpcServer, open_server
from tidemill.rpc.server import check_exposure
from tidemill.security.keys import mesh_key
from tidemill.security.tokens import Identity, service_subject
from tidemill.settings import MeshSettings
from tidemill.tasks import Tasks
from tidemill.telemetry import Telemetry, open_telemetry
from tidemill.wake import Wake

log = structlog.get_logger()

HEALTH_SECONDS = 2.0
STARTING_SECONDS = 0.1
"""Until a service serves for the first time somebody may wait for it."""
PING_EVERY_SECONDS = 10.0
PING_SECONDS = 10.0
STORE_SECONDS = 600.0
"""How long a service waits at its start for the exchange of its store."""


@dataclass(frozen=True)
class Runtime:
    """What a service's lifespan gets."""

    service: str
    settings: MeshSettings
    clock: Clock
    database: Database
    bus: Bus
    server: RpcServer
    identity: Identity
    telemetry: Telemetry
    channels: Channels
    tasks: Tasks
    conditions: dict[str, Callable[[], bool]] = field(default_factory=dict)
    """What else must hold, by name, before the service says that it serves."""


Lifespan = Callable[[Runtime], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def open_runtime(
    service: str, settings: MeshSettings, clock: Clock | None = None
) -> AsyncIterator[Runtime]:
    """Open telemetry, rows, identity, bus and server; nothing listens or consumes yet."""
    check_exposure(settings)
    clock = clock or SystemClock()
    port = settings.metrics_port(service)
    folder = settings.home / service
    async with AsyncExitStack() as stack:
        telemetry = stack.enter_context(
            open_telemetry(service, folder, metrics_port=port, host=settings.host)
        )
        await stack.enter_async_context(store_shared(service, settings))
        database = await stack.enter_async_context(
            open_database(settings.database_url(service), service)
        )
        key = mesh_key(settings.home / "keys", create=settings.dev)
        identity = Identity(key, service_subject(service), clock)
        channels = Channels(settings)
        stack.push_async_callback(channels.close)
        bus = await stack.enter_async_context(
            open_bus(
                service,
                settings.kafka_address,
                database,
                identity,
                clock,
                telemetry,
                settings.kafka_session_ms,
                settings.flood_brake,
            )
        )
        tasks = Tasks()
        stack.push_async_callback(tasks.close)
        server = await stack.enter_async_context(
            open_server(settings, settings.grpc_port(service), identity.verifier, telemetry, clock)
        )
        yield Runtime(
            service, settings, clock, database, bus, server, identity, telemetry, channels, tasks
        )


@asynccontextmanager
async def store_shared(service: str, settings: MeshSettings) -> AsyncIterator[None]:
    """A service opens its SQLite file when no rebuild is exchanging it; StartRefused."""
    file = files.sqlite_file(settings.database_url(service))
    if file is None:
        yield
        return
    hint = f"a rebuild of {service} holds its store; wait for it"
    refusal = StartRefused("STORE_IN_USE", hint)
    async with files.held(files.store_lock(file), refusal, alone=False, seconds=STORE_SECONDS):
        yield


@asynccontextmanager
async def running(
    service: str, settings: MeshSettings, lifespan: Lifespan, clock: Clock | None = None
) -> AsyncIterator[Runtime]:
    """A service that listens, consumes and tells its health.

    It listens before the broker is there; until then its health is NOT_SERVING.
    """
    async with open_runtime(service, settings, clock) as runtime, lifespan(runtime):
        await runtime.server.start([contract_of(service)])
        runtime.bus.start()
        runtime.tasks.on(
            "health",
            Wake(),
            HealthWatch(runtime).look,
            rest=STARTING_SECONDS,
            at_most=HEALTH_SECONDS,
        )
        log.info("service_started", port=runtime.server.port)
        try:
            yield runtime
        finally:
            await wind_down(runtime)


def contract_of(service: str) -> str:
    """Full name of a service's gRPC contract, which is loaded, so that its rules can be read."""
    importlib.import_module(f"tidemill.api.{service}.v1")
    return f"tidemill.api.{service}.v1.{service.capitalize()}Service"


async def wind_down(runtime: Runtime) -> None:
    """Let running calls, deliveries and turns end while the service's own parts are still open."""
    log.info("service_stopping")
    await runtime.server.set_serving(False)
    await runtime.tasks.close()
    await asyncio.gather(
        runtime.server.stop(), runtime.bus.stop_consuming(), return_exceptions=True
    )


class HealthWatch:
    """Looks at what the process knows anyway every HEALTH_SECONDS, and asks the database while
    there is doubt or when it was not asked for PING_EVERY_SECONDS: a question costs both sides."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._served = False
        self._asked = -PING_EVERY_SECONDS

    async def look(self) -> bool:
        """Whether to look again at once: the service has not served yet."""
        now = time.monotonic()
        doubt = not self._runtime.server.serving or self._runtime.database.writes.in_doubt()
        ping = doubt or now - self._asked >= PING_EVERY_SECONDS
        if ping:
            self._asked = now
        await report_health(self._runtime, ping=ping)
        self._served = self._served or bool(self._runtime.server.serving)
        return not self._served


async def report_health(runtime: Runtime, *, ping: bool = True) -> None:
    """SERVING only while rows answer, every consumer makes progress and the conditions hold."""
    try:
        if ping:
            async with asyncio.timeout(PING_SECONDS):
                await runtime.database.ping()
        stalled = [*await runtime.bus.stalled(), *unmet(runtime.conditions)]
    except (Fault, TimeoutError):
        stalled = ["database"]
    if await runtime.server.set_serving(not stalled):
        log.warning("health_changed", serving=not stalled, stalled=list(stalled))


def unmet(conditions: Mapping[str, Callable[[], bool]]) -> list[str]:
    return sorted(name for name, holds in conditions.items() if not holds())
