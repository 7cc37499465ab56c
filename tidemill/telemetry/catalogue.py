"""Every metric of the shared package: name, kind, unit, meaning and the values of its labels.

A label holds a value from a list in the code or a name from the topic catalogue or the contracts:
never a tenant, a user, an id or a text, so that the number of series is bounded and known.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How the value moves: a counter only upwards, a gauge both ways, a histogram of durations."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Outcome(StrEnum):
    """What became of one delivery."""

    APPLIED = "applied"
    """Effects, inbox row and outbox rows committed."""
    DUPLICATE = "duplicate"
    """Done by an earlier delivery."""
    DEAD_LETTERED = "dead_lettered"
    """Written as a dead letter."""
    HELD = "held"
    """Handed back to the broker: storage is down or the service stops."""
    SKIPPED = "skipped"
    """A replay that is meant for another consumer."""


@dataclass(frozen=True)
class Metric:
    """labels: names of the labels; each recording gives all of them."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()


DELIVERIES = Metric(
    "tidemill.deliveries",
    Kind.COUNTER,
    "1",
    "Records taken from a topic, by what became of them.",
    ("consumer", "outcome"),
)
DELIVERY_RETRIES = Metric(
    "tidemill.delivery.retries",
    Kind.COUNTER,
    "1",
    "Tries of a handler that failed and are made again.",
    ("consumer", "reason"),
)
DELIVERY_SECONDS = Metric(
    "tidemill.delivery.duration",
    Kind.HISTOGRAM,
    "s",
    "Time from taking a record to its outcome, waits between tries included.",
    ("consumer",),
)
DEAD_LETTERS = Metric(
    "tidemill.dead_letters",
    Kind.COUNTER,
    "1",
    "Records written to a dead-letter topic.",
    ("consumer", "reason"),
)
CONSUMER_LAG = Metric(
    "tidemill.consumer.lag",
    Kind.GAUGE,
    "1",
    "Records of the consumer's partitions that it has not taken yet.",
    ("consumer",),
)
CONSUMER_STOPPED = Metric(
    "tidemill.consumer.stopped",
    Kind.GAUGE,
    "1",
    "1 when the consumer stopped by itself, because it dead-lettered too many records.",
    ("consumer",),
)
CONSUMER_WAITING = Metric(
    "tidemill.consumer.waiting",
    Kind.GAUGE,
    "s",
    "How long the consumer has waited for a dependency; 0 when it does not wait.",
    ("consumer", "dependency"),
)
OUTBOX_DEPTH = Metric(
    "tidemill.outbox.depth",
    Kind.GAUGE,
    "1",
    "Events that are committed and wait to be published.",
)
BROKER_UP = Metric(
    "tidemill.broker.up",
    Kind.GAUGE,
    "1",
    "1 when the broker answered the last time it was asked.",
)
RPC_SECONDS = Metric(
    "tidemill.rpc.duration",
    Kind.HISTOGRAM,
    "s",
    "Time a server worked on an RPC; code is OK, CANCELLED, CALLERS_DEADLINE or an error reason.",
    ("method", "code"),
)

METRICS: tuple[Metric, ...] = (
    DELIVERIES,
    DELIVERY_RETRIES,
    DELIVERY_SECONDS,
    DEAD_LETTERS,
    CONSUMER_LAG,
    CONSUMER_STOPPED,
    CONSUMER_WAITING,
    OUTBOX_DEPTH,
    BROKER_UP,
    RPC_SECONDS,
)
