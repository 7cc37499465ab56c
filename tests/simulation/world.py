"""The mesh of one run: service processes that are kept alive, and the parts around them."""

import asyncio
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from aiokafka import TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.simulation.boundary import Clock
from tests.simulation.broker import Broker
from tests.simulation.disk import Disk
from tests.simulation.loop import SimulatedLoop
from tests.simulation.process import WORLD, Process
from tests.simulation.rpc import Channel, Network
from tests.simulation.stores import Stores
from tidemill.runtime import Runtime, running
from tidemill.security.keys import KEY_FILE, MeshKey, encode_private
from tidemill.security.tokens import Identity
from tidemill.settings import MeshSettings
from tidemill.topics import CATALOGUE

STOP_SECONDS = 60.0
LETTERS_SHARE = 0.3
REPLAY_SHARE = 0.3
"""Of the seeds: reading everything again doubles the work."""
ENVIRONMENT = {
    # Fewer idle turns; what is done in a turn is the same.
    "TIDEMILL_TRAINER_POLL_SECONDS": "5",
    "TIDEMILL_MONITOR_POLL_SECONDS": "5",
    "TIDEMILL_EVALUATOR_RUN_POLL_SECONDS": "2",
    "TIDEMILL_EVALUATOR_RUN_SUITE_WAIT_SECONDS": "5",
    # Ended versions are swept while the run still watches.
    "TIDEMILL_RETRIEVER_GRACE_SECONDS": "5",
    "TIDEMILL_RETRIEVER_SWEEP_EVERY_SECONDS": "5",
}


@dataclass(eq=False)
class Replica:
    """One place where a service runs, over all its processes."""

    service: str
    number: int
    process: Process | None = None
    runtime: Runtime | None = None
    task: "asyncio.Task[None] | None" = None
    wanted: bool = True


class World:
    """Owns every simulated part; services see only their usual doors."""

    def __init__(self, loop: SimulatedLoop, seed: object, home: Path, names: list[str]) -> None:
        self.loop = loop
        self.seed = seed
        self.names = names
        self.broker = loop.broker = Broker(loop)
        self.disk = loop.disk = Disk()
        self.network = loop.network = Network()
        self.stores = loop.stores = Stores()
        self.settings = MeshSettings(
            home=home, dev=False, kafka="simulated:1", milvus="http://milvus", triton="triton:1"
        )
        self.clock = Clock(loop)
        self.identity = Identity(make_key(home), "user", self.clock)
        self.replicas = [Replica(name, 0) for name in names]
        # Services whose rows may be lost and come again from the log.
        self.rebuildable: tuple[str, ...] = ()
        self.wants_letters = Random(f"{seed}/letters").random() < LETTERS_SHARE
        self.wants_replay = Random(f"{seed}/replay").random() < REPLAY_SHARE
        self._random = Random(f"{seed}/supervisor")
        self._started = 0
        self._keepers: list[asyncio.Task[None]] = []
        for topic in CATALOGUE:
            self.broker.create(topic.name, topic.partitions)
            self.broker.create(topic.dead_letter_name, 1)

    def rows(self, service: str) -> Path:
        return self.settings.home / service / "rows.db"

    def network_channel(self, service: str) -> Any:
        """A user's way to a service."""
        return Channel(service)

    # --- processes

    def begin(self) -> None:
        for replica in self.replicas:
            self._keepers.append(self.loop.start(self._keep(replica), WORLD))

    def add_replica(self, service: str) -> Replica:
        number = max(r.number for r in self.replicas if r.service == service) + 1
        replica = Replica(service, number)
        self.replicas.append(replica)
        self._keepers.append(self.loop.start(self._keep(replica), WORLD))
        return replica

    async def _keep(self, replica: Replica) -> None:
        """A supervisor: what dies is started again after a moment."""
        while replica.wanted:
            self._started += 1
            process = Process(f"{replica.service}.{self._started}", replica.service)
            replica.process = process
            replica.task = self.loop.start(self._serve(replica), process)
            self.loop.trace("start", process.name)
            while process.alive and not replica.task.done():  # noqa: ASYNC110 - it polls
                await asyncio.sleep(0.5)
            if replica.task.done() and process.alive:
                if (error := replica.task.exception()) is not None:
                    self.loop.trace("exit", process.name, type(error).__name__)
                self.loop.bury(process)
            replica.runtime = None
            await asyncio.sleep(self._random.uniform(0.2, 2.0))

    async def _serve(self, replica: Replica) -> None:
        app = importlib.import_module(f"services.{replica.service}.app")
        async with running(replica.service, self.settings, app.lifespan, self.clock) as runtime:
            replica.runtime = runtime
            assert replica.process
            await self._stop_of(replica.process).wait()

    def _stop_of(self, process: Process) -> asyncio.Event:
        if not hasattr(process, "stop"):
            process.stop = asyncio.Event()  # type: ignore[attr-defined]
        stop: asyncio.Event = process.stop  # type: ignore[attr-defined]
        return stop

    def kill(self, process: Process) -> None:
        """kill -9."""
        if process.alive:
            self.loop.trace("kill", process.name)
            self.loop.bury(process)

    async def stop(self, replica: Replica) -> None:
        """SIGTERM, and SIGKILL when that takes too long."""
        process, task = replica.process, replica.task
        if process is None or task is None or not process.alive:
            return
        self.loop.trace("stop", process.name)
        self._stop_of(process).set()
        await asyncio.wait([task], timeout=STOP_SECONDS)
        self.kill(process)

    async def end(self) -> None:
        """Every process is killed; nothing is started again."""
        for replica in self.replicas:
            replica.wanted = False
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for replica in self.replicas:
            if replica.process is not None:
                self.kill(replica.process)

    # --- quiet

    def runtimes(self) -> list[Runtime]:
        return [r.runtime for r in self.replicas if r.runtime and r.process and r.process.alive]

    def unfinished(self) -> list[str]:
        """What is still to be done, in words; empty when the mesh has come to rest."""
        if any(r.wanted and (r.runtime is None or not r.process) for r in self.replicas):
            return ["a service starts"]
        waiting = [name for runtime in self.runtimes() for name in busy(runtime)]
        return waiting or self._unread() or self._unsent()

    def _unread(self) -> list[str]:
        alive = [client for process, client in self.broker.consumers if process.alive]
        names = sorted({client.group for client in alive})
        found = []
        for name in names:
            held = dict[TopicPartition, int]()
            for client in alive:
                if client.group == name and client._member.name in self.broker.group(name).members:
                    held |= client.behind()
            topic = name.split(".", 2)[2]
            whole = len(held) == len(self.broker.logs[topic])
            if not whole or any(held.values()) or self.broker.group(name).rebalancing:
                found.append(f"{name} reads")
        return found

    def _unsent(self) -> list[str]:
        from tests.simulation.ledgers import read

        names = sorted({r.service for r in self.replicas})
        return [f"{n} outbox" for n in names if read(self.rows(n), "SELECT 1 FROM outbox LIMIT 1")]

    async def rest(self, limit: float) -> list[str]:
        """Waits until the mesh rests; what is left undone after that many virtual seconds."""
        calm, end, left = 0, self.loop.time() + limit, ["nothing was asked"]
        while calm < 3:
            if self.loop.time() > end:
                return left
            await asyncio.sleep(1.0)
            left = self.unfinished()
            calm = 0 if left else calm + 1
        return []


def busy(runtime: Runtime) -> list[str]:
    """Consumers with a record in hand or set aside."""
    found = [s.consumer.name for s in runtime.bus._subscriptions if s.dispatcher._tasks]
    return found if runtime.bus._connected.is_set() else [runtime.service]


def make_key(home: Path) -> MeshKey:
    """The same key in every run."""
    private = Ed25519PrivateKey.from_private_bytes(b"tidemill simulation, no secret!!")
    folder = home / "keys"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / KEY_FILE).write_bytes(encode_private(private))
    return MeshKey(private.public_key().public_bytes_raw().hex()[:16], private)


@contextmanager
def environment() -> Iterator[None]:
    """The settings of a run; what the person who starts it has set does not reach it."""
    before = dict(os.environ)
    for name in [n for n in before if n.startswith(("TIDEMILL_", "OTEL_"))]:
        del os.environ[name]
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
