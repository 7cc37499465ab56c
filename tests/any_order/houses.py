"""The consumers of six services on real rows, a real vector store and a real reading process,
without Kafka between: a test hands them records in whatever order it likes."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

from services.evaluator import consumer as evaluator
from services.evaluator.adapters import tables as evaluator_tables
from services.evaluator.handlers.parts import Parts as EvaluatorParts
from services.evaluator.settings import CanaryRules
from services.inference import consumer as inference
from services.inference.adapters import store as inference_store
from services.inference.adapters.release_book import ReleaseBook
from services.inference.handlers.feedback import FeedbackTaking
from services.ingest import consumer as ingest
from services.ingest.adapters import store as ingest_store
from services.ingest.adapters.originals import Originals
from services.ingest.adapters.preparation import Limits as ReadingLimits
from services.ingest.adapters.reader import Allowance, Reader
from services.ingest.handlers.events import Ingest
from services.monitor import consumer as monitor
from services.monitor.adapters import tables as monitor_tables
from services.monitor.adapters.figures import Figures
from services.monitor.handlers.parts import Parts as MonitorParts
from services.monitor.settings import DriftRules, ShareRules
from services.retriever import consumer as retriever
from services.retriever.adapters import store as retriever_store
from services.retriever.adapters.vector_store import VectorStore
from services.retriever.handlers.indexing import Indexing
from services.trainer import consumer as trainer
from services.trainer.adapters import store as trainer_store
from services.trainer.handlers.feedback import FeedbackMeter
from tests.any_order.history import START, Event
from tests.tables import create_tables
from tests.unit.retriever.world import ManualClock
from tidemill.artifacts import ArtifactStore
from tidemill.bus import Bus, inbox, open_bus
from tidemill.bus.dispatcher import OrderedDispatcher
from tidemill.bus.envelope import Record
from tidemill.clock import Clock, Stopwatch, SystemClock
from tidemill.db import Database, open_database
from tidemill.security.keys import load_or_create_key
from tidemill.security.tokens import Identity
from tidemill.telemetry import Telemetry, open_telemetry
from tidemill.wake import Wake

ARRIVALS = (1, 7, 2, 30)
"""How many events arrive together, in turn."""
KEEP_SECONDS = 30 * 86_400.0
"""For how long the monitor knows an answer that it counted."""

TABLES: dict[str, Any] = {
    "evaluator": evaluator_tables.Base,
    "inference": inference_store.Base,
    "ingest": ingest_store.Base,
    "monitor": monitor_tables.Base,
    "retriever": retriever_store.Base,
    "trainer": trainer_store.Base,
}


@dataclass
class Street:
    """The services side by side; buses, their rows and telemetry by service name."""

    folder: Path
    identity: Identity
    vectors: VectorStore
    clock: Clock = field(default_factory=SystemClock)
    rows: dict[str, Database] = field(default_factory=dict)
    buses: dict[str, Bus] = field(default_factory=dict)
    telemetry: dict[str, Telemetry] = field(default_factory=dict)
    offset: int = 0
    dispatchers: dict[str, list[OrderedDispatcher]] = field(
        default_factory=lambda: defaultdict(list)
    )

    async def take(self, deliveries: Iterable[Event]) -> None:
        """Each consumer of an event's topic takes it, alone or together with its neighbours as
        they would arrive; none may be dead-lettered."""
        sizes, records = cycle(ARRIVALS), [event.record(self.identity) for event in deliveries]
        while records:
            size = next(sizes)
            await self._arrive(records[:size])
            records = records[size:]
        for service, database in self.rows.items():
            dead = await database.read(inbox.count_dead)
            assert dead == 0, f"{service} dead-lettered an event"

    async def _arrive(self, records: list[Record]) -> None:
        """A delivery that comes again has an offset of its own."""
        for topic in dict.fromkeys(record.topic for record in records):
            arrived = []
            for record in records:
                if record.topic == topic:
                    self.offset += 1
                    arrived.append(replace(record, offset=self.offset))
            for dispatcher in self.dispatchers[topic]:
                await dispatcher.put(arrived)
                await dispatcher.settled()

    def move_in(self, bus: Bus) -> None:
        self.rows[bus.service], self.buses[bus.service] = bus.database, bus
        for subscription in bus._subscriptions:
            topic = subscription.consumer.topic.name
            self.dispatchers[topic].append(subscription.dispatcher)


@asynccontextmanager
async def open_street(
    folder: Path, vectors: VectorStore, reader: Reader, clock: Clock | None = None
) -> AsyncIterator[Street]:
    """Every service with fresh rows in that folder. clock: the services'."""
    clock = clock or SystemClock()
    # Tokens are judged by an event's own time.
    key = load_or_create_key(folder / "keys")
    identity = Identity(key, "history", ManualClock(START))
    street = Street(folder, identity, vectors, clock)
    async with AsyncExitStack() as stack:
        for service, base in TABLES.items():
            open_rows = open_database(f"sqlite+aiosqlite:///{folder / service}.db")
            database = await stack.enter_async_context(open_rows)
            await create_tables(database, base.metadata)
            telemetry = stack.enter_context(
                open_telemetry(service, folder / "telemetry" / service, metrics_port=None)
            )
            nowhere = open_bus(service, "127.0.0.1:1", database, identity, clock, telemetry)
            bus = await stack.enter_async_context(nowhere)
            street.telemetry[service] = telemetry
            subscribe(bus, telemetry, street, reader)
            street.move_in(bus)
        yield street


def subscribe(bus: Bus, telemetry: Telemetry, street: Street, reader: Reader) -> None:
    """As the service's own app does it."""
    match bus.service:
        case "evaluator":
            evaluator.subscribe(evaluator_parts(bus, telemetry, street.clock), Wake())
        case "inference":
            taking = FeedbackTaking(bus.database, bus, street.clock, telemetry.tracer)
            inference.subscribe(bus, ReleaseBook(bus.database, street.clock), taking, Wake())
        case "ingest":
            originals = Originals(ArtifactStore(str(street.folder / "artifacts")))
            ingest.subscribe(bus, Ingest(bus.database, reader, originals, 1 << 20), timeout=60.0)
        case "monitor":
            monitor.subscribe(monitor_parts(bus, telemetry, street.clock), Wake())
        case "retriever":
            retriever.subscribe(bus, Indexing(bus, street.vectors), timeout=60.0)
        case "trainer":
            trainer.subscribe(bus, FeedbackMeter(telemetry.meter), Wake())


def monitor_parts(bus: Bus, telemetry: Telemetry, clock: Clock) -> MonitorParts:
    return MonitorParts(
        bus=bus,
        database=bus.database,
        clock=clock,
        figures=Figures(telemetry.meter, 10),
        drift=DriftRules(),
        share=ShareRules(),
        keep_seconds=KEEP_SECONDS,
    )


def evaluator_parts(bus: Bus, telemetry: Telemetry, clock: Clock) -> EvaluatorParts:
    """Events need nothing of what asks other services."""
    nothing: Any = None
    return EvaluatorParts(
        bus=bus,
        database=bus.database,
        clock=clock,
        tracer=telemetry.tracer,
        serving=nothing,
        gate=nothing,
        canary=CanaryRules(),
        run=nothing,
        release=nothing,
        watch=Stopwatch(clock),
    )


@asynccontextmanager
async def open_reader() -> AsyncIterator[Reader]:
    limits = ReadingLimits(
        max_pages=10, max_expanded_bytes=1 << 20, max_chunks=100, passage_words=80
    )
    async with Reader(limits, Allowance(60, 90.0, 1 << 30)) as reader:
        yield reader
