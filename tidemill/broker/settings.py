"""Settings of the embedded broker: every one has a usable default."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

MEBIBYTE = 1 << 20


class FsyncPolicy(StrEnum):
    """When written records are forced to the disk, that is, survive a power cut."""

    NEVER = "never"
    INTERVAL = "interval"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLimits:
    """Bounds on consumer groups; sessions follow Apache Kafka's defaults."""

    initial_delay_ms: int = 100
    min_session_ms: int = 6_000
    max_session_ms: int = 1_800_000
    max_members: int = 200
    max_groups: int = 2_000
    max_metadata_chars: int = 4_096
    empty_kept_ms: int = 60_000
    offsets_retention_ms: int = 7 * 24 * 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionLimits:
    """Bounds on transactions; but for `check_ms`, Apache Kafka's defaults where it has any.

    Every `check_ms` those past their timeout are aborted.
    """

    max_timeout_ms: int = 900_000
    check_ms: int = 500
    id_expiry_ms: int = 7 * 24 * 3_600_000
    max_ids: int = 10_000
    max_groups: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Bounds on what clients may ask of the process; one request per connection is in work."""

    max_connections: int = 512
    max_request_bytes: int = 100 * MEBIBYTE
    max_fetch_bytes: int = 55 * MEBIBYTE
    max_fetch_wait_ms: int = 30_000
    idle_seconds: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """How one broker process runs; `port` 0 takes any free port.

    `advertised` is the (host, port) clients are told to connect to, for runs behind a proxy;
    None means the address the broker listens on.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 9092
    advertised: tuple[str, int] | None = None
    allow_remote: bool = False
    fsync: FsyncPolicy = FsyncPolicy.INTERVAL
    fsync_interval_ms: int = 1_000
    default_partitions: int = 1
    max_partitions: int = 4_000
    auto_create_topics: bool = False
    retention_check_ms: int = 5_000
    compaction_max_keys: int = 250_000
    producer_expiry_ms: int = 24 * 3_600_000
    groups: GroupLimits = GroupLimits()
    transactions: TransactionLimits = TransactionLimits()
    connections: ConnectionLimits = ConnectionLimits()
