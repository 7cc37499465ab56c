"""The one place where a simulation touches the code: what it puts in for the outside world."""

import asyncio
import os
import random
import sqlite3.dbapi2
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import aiokafka
import aiokafka.admin.client
import aiosqlite
import anyio.to_thread
import faststream._internal.broker.registrator as registrator
import tritonclient.grpc.aio as triton
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from sqlalchemy.util.concurrency import _concurrency_shim

import services.ingest.adapters.reader as reader
import services.retriever.adapters.vector_store as vector_store
import tidemill.bus.admin as bus_admin
import tidemill.bus.dead_letters.log as letters
import tidemill.ids as ids
import tidemill.runtime as runtime
from tests.simulation import disk, kafka_clients, rpc, stores
from tests.simulation.loop import SimulatedLoop
from tidemill.telemetry import Telemetry
from tidemill.telemetry.catalogue import METRICS
from tidemill.telemetry.telemetry import create_instruments


class InOrder(dict[Any, None]):
    """Stands for a WeakSet, whose order depends on addresses in memory."""

    def add(self, item: Any) -> None:
        self[item] = None


class Clock:
    """A process's clocks; skew in seconds against the others."""

    def __init__(self, loop: SimulatedLoop, skew: float = 0.0) -> None:
        self._loop = loop
        self._skew = skew

    def now(self) -> datetime:
        start = datetime.fromtimestamp(self._loop.wall() - self._loop.time(), UTC)
        return start + timedelta(seconds=self._loop.time() + self._skew)

    def monotonic(self) -> float:
        return self._loop.time()


@contextmanager
def quiet_telemetry(
    service: str, folder: Path, *, metrics_port: int | None, host: str
) -> Iterator[Telemetry]:
    """Real spans and ids, no exporter, no port, no threads."""
    meter = NoOpMeterProvider().get_meter("tidemill")
    # Of its own accord it would ask the system who we are, in a thread, in the first run alone.
    provider = TracerProvider(shutdown_on_exit=False, resource=Resource.get_empty())
    tracer = provider.get_tracer("tidemill")
    yield Telemetry(tracer, meter, CollectorRegistry(), create_instruments(meter, METRICS))


def counted_greenlets(loop: SimulatedLoop) -> type:
    """SQLAlchemy's greenlets, known to the loop."""
    plain: Any = _concurrency_shim._AsyncIoGreenlet

    class Greenlet(plain):  # type: ignore[misc]
        def __init__(self, function: Any, driver: Any) -> None:
            super().__init__(function, driver)
            loop.greenlets.add(self)

    return Greenlet


async def in_no_thread(function: Callable[..., Any], *args: Any, **_: Any) -> Any:
    """Stands for anyio.to_thread.run_sync, which FastStream's dependencies use."""
    await asyncio.sleep(0)
    return function(*args)


@contextmanager
def replaced_by(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute has another value for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def bytes_of(source: Random) -> Callable[[int], bytes]:
    return lambda size: source.randbytes(size)


@contextmanager
def outside_world(loop: SimulatedLoop, seed: object) -> Iterator[None]:
    """Put the simulated parts in, and take them out again."""
    entropy = Random(f"{seed}/entropy")
    state = random.getstate()
    random.seed(f"{seed}/library")
    reader_asyncio = SimpleNamespace(
        **{n: getattr(asyncio, n) for n in dir(asyncio) if not n.startswith("__")}
    )
    reader_asyncio.create_subprocess_exec = stores.start_reading
    parts: list[tuple[Any, str, Any]] = [
        (aiokafka, "AIOKafkaConsumer", kafka_clients.Consumer),
        (aiokafka, "AIOKafkaProducer", kafka_clients.Producer),
        (aiokafka.admin.client, "AIOKafkaAdminClient", kafka_clients.Admin),
        (bus_admin, "AIOKafkaAdminClient", kafka_clients.Admin),
        (letters, "AIOKafkaConsumer", kafka_clients.Consumer),
        (letters, "AIOKafkaProducer", kafka_clients.Producer),
        (aiosqlite, "connect", disk.connect),
        (sqlite3.dbapi2, "connect", disk.connect_in_thread),
        (triton, "InferenceServerClient", stores.Triton),
        (vector_store, "MilvusClient", stores.Milvus),
        (reader, "asyncio", reader_asyncio),
        (runtime, "open_telemetry", quiet_telemetry),
        (runtime, "open_server", rpc.open_server),
        (runtime, "Channels", rpc.Channels),
        (ids, "time", SimpleNamespace(time_ns=lambda: int(loop.wall() * 1e9))),
        (ids, "secrets", SimpleNamespace(token_hex=lambda n: entropy.randbytes(n).hex())),
        (registrator, "WeakSet", InOrder),
        (anyio.to_thread, "run_sync", in_no_thread),
        (_concurrency_shim, "_AsyncIoGreenlet", counted_greenlets(loop)),
        (os, "urandom", bytes_of(entropy)),
        (random, "_urandom", bytes_of(entropy)),  # SystemRandom's own name for it
        (uuid, "uuid4", lambda: uuid.UUID(bytes=entropy.randbytes(16), version=4)),
        (time, "time", loop.wall),
        (time, "monotonic", loop.time),
    ]
    with ExitStack() as stack:
        stack.callback(random.setstate, state)
        for owner, name, value in parts:
            stack.enter_context(replaced_by(owner, name, value))
        yield
