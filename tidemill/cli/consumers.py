"""What the services' metrics say of their consumers: how far behind, and what they wait for."""

import asyncio
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tidemill.settings import MeshSettings

SECONDS = 2.0
LAG = "tidemill_consumer_lag"
STOPPED = "tidemill_consumer_stopped"
WAITING = "tidemill_consumer_waiting_seconds"


@dataclass
class ConsumerState:
    """consumer: "service/topic". behind: events that it has not taken. waiting_seconds: for how
    long it waits for the dependency, 0 when it waits for none."""

    consumer: str
    behind: int = 0
    stopped: bool = False
    dependency: str = ""
    waiting_seconds: float = 0.0

    @property
    def is_well(self) -> bool:
        return not self.stopped and not self.waiting_seconds

    def describe(self) -> str:
        """One line for people."""
        behind = f"{self.behind} events behind"
        if self.stopped:
            return f"{self.consumer} stopped by itself, {behind}; see `tidemill alerts`"
        waits = f"waits for {self.dependency} since {self.waiting_seconds:.0f} s"
        return f"{self.consumer} {waits}, {behind}"


async def consumer_states(settings: MeshSettings, services: Iterable[str]) -> list[ConsumerState]:
    """Of the services on this machine whose metrics answer; the others say nothing."""
    ports = [settings.metrics_port(service) for service in services]
    pages = await asyncio.gather(*(asyncio.to_thread(read_metrics, port) for port in ports))
    return [state for page in pages for state in states_in(page)]


def read_metrics(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SECONDS) as page:
            return str(page.read().decode())
    except OSError:
        return ""


def states_in(page: str) -> list[ConsumerState]:
    """From Prometheus' text format, by the consumer's name."""
    found: dict[str, ConsumerState] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if "consumer" in sample.labels:
                name = sample.labels["consumer"]
                state = found.setdefault(name, ConsumerState(name))
                note(state, sample.name, sample.value, sample.labels)
    return [found[name] for name in sorted(found)]


def note(state: ConsumerState, name: str, value: float, labels: Mapping[str, str]) -> None:
    if name == LAG:
        state.behind = int(value)
    elif name == STOPPED:
        state.stopped = bool(value)
    elif name == WAITING and value > state.waiting_seconds:
        state.waiting_seconds, state.dependency = value, labels.get("dependency", "")
