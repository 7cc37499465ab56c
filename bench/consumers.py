"""What an event costs the services that consume answers, in processor time.

    python -m bench.consumers [monitor evaluator trainer] [--events 4000] [--lone 100]

Each service's own consumers run on the real bus, over an embedded broker of their own, with a
SQLite file as durable as in use and with spans written to a file. Timers and calls are left out.
`events_per_second_core` is of a full topic, whose events share transactions; `lone_event_ms` is of
events that come one by one, less what the service uses at rest. Both are of the service's process
alone: another one sends the events. Prints JSON.
"""

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer

from services.evaluator import consumer as evaluator_consumer
from services.evaluator import migrations as evaluator_tables
from services.evaluator.app import parts_of as evaluator_parts
from services.evaluator.settings import Settings as EvaluatorSettings
from services.monitor import consumer as monitor_consumer
from services.monitor import migrations as monitor_tables
from services.monitor.app import parts_of as monitor_parts
from services.monitor.settings import Settings as MonitorSettings
from services.trainer import consumer as trainer_consumer
from services.trainer import migrations as trainer_tables
from services.trainer.handlers.feedback import FeedbackMeter
from tidemill import topics
from tidemill.api.events import v1 as events
from tidemill.bus.admin import create_topics
from tidemill.bus.envelope import TRACEPARENT, event_headers
from tidemill.db.migrations import Migrations
from tidemill.runtime import Runtime, open_runtime
from tidemill.settings import MeshSettings
from tidemill.telemetry.logging import configure_logging

WARM_UP = 600
TENANTS = 5
DIMENSIONS = 384
LONE_EVERY_SECONDS = 0.05
LOOK_SECONDS = 0.2
REST_SECONDS = 3.0
DELIVERIES = "tidemill_deliveries_total"


def subscribe_monitor(runtime: Runtime) -> None:
    monitor_consumer.subscribe(monitor_parts(runtime, MonitorSettings()))


def subscribe_evaluator(runtime: Runtime) -> None:
    evaluator_consumer.subscribe(evaluator_parts(runtime, EvaluatorSettings()))


def subscribe_trainer(runtime: Runtime) -> None:
    trainer_consumer.subscribe(runtime.bus, FeedbackMeter(runtime.telemetry.meter))


SERVICES: dict[str, tuple[Migrations, Callable[[Runtime], None]]] = {
    "monitor": (monitor_tables.MIGRATIONS, subscribe_monitor),
    "evaluator": (evaluator_tables.MIGRATIONS, subscribe_evaluator),
    "trainer": (trainer_tables.MIGRATIONS, subscribe_trainer),
}


def answer(number: int, random: Random) -> events.AnswerGenerated:
    """An answer of usual size to one of a thousand questions."""
    vector = np.random.default_rng(number % 1000).standard_normal(DIMENSIONS)
    message = events.AnswerGenerated(
        tenant_id=f"tenant-{number % TENANTS}",
        answer_id=f"ans_{number:012d}",
        user_hash=f"{random.getrandbits(128):032x}",
        question="How many days of annual leave does a full-time employee get?",
        question_embedding=vector.astype("<f4").tobytes(),
        prompt="passage " * 300,
        release_id=f"rel_{number % 2}",
        completion="A full-time employee gets 27 days of annual leave [1].",
        text="A full-time employee gets 27 days of annual leave [1].",
        refused=number % 20 == 0,
        finish_reason="stop",
        duration_seconds=random.lognormvariate(0.5, 0.4),
        purpose=events.PURPOSE_PRODUCTION,
    )
    for marker in range(1, 5):
        message.chunks.add(chunk_id=f"c-{marker}", document_id=f"d-{marker}", version=1, score=0.5)
    message.usage.input_tokens, message.usage.output_tokens = 700, 30
    message.usage.cost_micros = 2_500
    message.answered_time.FromDatetime(datetime.now(UTC))
    return message


async def feed(bootstrap: str, first: int, count: int, every: float) -> None:
    """Send answers, all at once or one after each pause."""
    random = Random(first)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=0 if every else 5) as out:
        for number in range(first, first + count):
            message = answer(number, random)
            headers = event_headers(
                topics.ANSWERS_GENERATED, f"evt-{number}", "inference", datetime.now(UTC)
            ) | {TRACEPARENT: f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-01"}
            await out.send(
                topics.ANSWERS_GENERATED.name,
                message.SerializeToString(),
                key=f"{message.tenant_id}/{message.answer_id}".encode(),
                headers=[(name, value.encode()) for name, value in headers.items()],
            )
            await asyncio.sleep(every)
        await out.flush()


def feeding(bootstrap: str, first: int, count: int, every: float = 0.0) -> "subprocess.Popen[str]":
    """The same in a process of its own."""
    numbers = [str(first), str(count), str(every)]
    return subprocess.Popen(
        [sys.executable, "-m", "bench.consumers", "--feed", bootstrap, *numbers], text=True
    )


@contextmanager
def broker(folder: str) -> Iterator[str]:
    """Address of an embedded broker."""
    options = ["--data-dir", f"{folder}/broker", "--port", "0", "--group-initial-delay-ms", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tidemill.broker", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1]
    finally:
        process.terminate()
        process.wait()


def applied(runtime: Runtime) -> int:
    """Events of the topic that the service has applied so far."""
    consumer = f"{runtime.service}/{topics.ANSWERS_GENERATED.name}"
    wanted = {"consumer": consumer, "outcome": "applied"}.items()
    found = [sample for metric in runtime.telemetry.registry.collect() for sample in metric.samples]
    return sum(int(s.value) for s in found if s.name == DELIVERIES and wanted <= s.labels.items())


async def until_applied(runtime: Runtime, count: int) -> tuple[int, float]:
    """Events that are applied, at least so many, and the processor time until then."""
    while True:
        now = applied(runtime)
        if now >= count:
            return now, time.process_time()
        await asyncio.sleep(LOOK_SECONDS)


async def full_topic(runtime: Runtime, count: int) -> dict[str, float]:
    runtime.bus.start()
    begun, cpu = await until_applied(runtime, WARM_UP)
    wall = time.monotonic()
    ended, cpu_end = await until_applied(runtime, WARM_UP + count)
    number, used = ended - begun, cpu_end - cpu
    return {
        "events": number,
        "events_per_second_core": round(number / used),
        "event_ms": round(1000 * used / number, 3),
        "events_per_second": round(number / (time.monotonic() - wall)),
    }


async def lone_events(runtime: Runtime, first: int, count: int) -> dict[str, float]:
    there = applied(runtime)
    begun, wall = time.process_time(), time.monotonic()
    await asyncio.sleep(REST_SECONDS)
    share = (time.process_time() - begun) / (time.monotonic() - wall)
    feeder = feeding(runtime.settings.kafka_address, first, count, LONE_EVERY_SECONDS)
    begun, wall = time.process_time(), time.monotonic()
    await asyncio.to_thread(feeder.wait)
    await asyncio.sleep(LOOK_SECONDS)
    used = time.process_time() - begun - share * (time.monotonic() - wall)
    number = applied(runtime) - there
    return {"lone_event_ms": round(1000 * used / number, 3), "rest_cpu_share": round(share, 4)}


async def measure(service: str, count: int, lone: int) -> dict[str, float]:
    """In a folder of its own, with a broker of its own."""
    total = WARM_UP + count
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as name, broker(name) as bootstrap:
        await create_topics(bootstrap)
        await asyncio.to_thread(feeding(bootstrap, 0, total).wait)
        async with consuming(service, Path(name), bootstrap) as runtime:
            return await full_topic(runtime, count) | await lone_events(runtime, total, lone)


@asynccontextmanager
async def consuming(service: str, folder: Path, bootstrap: str) -> AsyncIterator[Runtime]:
    """The service's rows and consumers; nothing listens, no timer runs."""
    settings = MeshSettings(
        home=folder / "home", kafka=bootstrap, port_base=free_port_base(service)
    )
    migrations, subscribe = SERVICES[service]
    async with open_runtime(service, settings) as runtime:
        await runtime.database.expect(migrations)
        subscribe(runtime)
        yield runtime


def free_port_base(service: str) -> int:
    """From which the service's metrics come to stand on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port - MeshSettings(port_base=0).metrics_port(service)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("services", nargs="*", default=list(SERVICES), help=", ".join(SERVICES))
    parser.add_argument("--events", type=int, default=4_000)
    parser.add_argument("--lone", type=int, default=100)
    parser.add_argument("--feed", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.feed:
        bootstrap, first, count, every = options.feed
        asyncio.run(feed(bootstrap, int(first), int(count), float(every)))
        return
    configure_logging("bench", "WARNING")
    found: dict[str, Any] = {
        service: asyncio.run(measure(service, options.events, options.lone))
        for service in options.services
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
