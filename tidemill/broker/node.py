"""Everything a broker keeps, opened from its data directory and closed again."""

from dataclasses import dataclass
from uuid import uuid4

import structlog

from tidemill.broker.clock import Clock
from tidemill.broker.durability import Durability
from tidemill.broker.errors import RequestRefused, StartupRefused
from tidemill.broker.groups.coordinator import GroupCoordinator
from tidemill.broker.groups.offsets import CommittedOffset
from tidemill.broker.producer_ids import ProducerIds
from tidemill.broker.settings import BrokerSettings
from tidemill.broker.storage.data_directory import DataDirectory
from tidemill.broker.storage.disk import Disk
from tidemill.broker.storage.journal import Journal, Record
from tidemill.broker.storage.partition import Partition
from tidemill.broker.topics import Topics
from tidemill.broker.transactions.coordinator import TransactionCoordinator
from tidemill.broker.transactions.outcome import Outcome

NODE_ID = 1
_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Node:
    """The parts of the one node. `host` and `port` are what clients are told."""

    settings: BrokerSettings
    clock: Clock
    disk: Disk
    directory: DataDirectory
    journal: Journal
    durability: Durability
    topics: Topics
    groups: GroupCoordinator
    producer_ids: ProducerIds
    transactions: TransactionCoordinator
    cluster_id: str = ""
    host: str = ""
    port: int = 0

    def partitions(self) -> list[Partition]:
        """All open partitions."""
        return [partition for topic in self.topics for partition in topic.partitions]

    def compact_journal(self) -> None:
        """Rewrites the journal without its history; raises OSError."""
        records: list[Record] = [_cluster_record(self.cluster_id)]
        for part in (self.topics, self.producer_ids, self.groups, self.transactions):
            records.extend(part.snapshot())
        self.journal.rewrite(records)

    def close(self) -> None:
        """Forces everything to disk and lets go of the folder."""
        self.groups.close()
        for partition in self.partitions():
            _quietly_sync(partition)
            partition.close()
        try:
            self.journal.sync()
        except OSError:
            _log.error("journal_sync_failed")
        self.journal.close()
        self.directory.close()


def open_node(settings: BrokerSettings, disk: Disk, clock: Clock) -> Node:
    """Takes the folder and recovers what is in it.

    Raises StartupRefused with a reason; call it on the running event loop.
    """
    directory = DataDirectory(settings.data_dir, disk)
    try:
        return _recover(settings, directory, disk, clock)
    except StartupRefused:
        directory.close()
        raise
    except (OSError, RequestRefused) as error:
        directory.close()
        raise StartupRefused(
            "DATA_DIR_UNUSABLE",
            f"cannot open the log in {settings.data_dir}; check space, rights and the disk",
        ) from error


def _recover(settings: BrokerSettings, directory: DataDirectory, disk: Disk, clock: Clock) -> Node:
    node = _assemble(settings, directory, disk, clock)
    for record in node.journal.replay():
        _replay(node, record)
    node.topics.open()
    node.groups.open()
    node.transactions.recover()
    _pull_back_offsets(node)
    if not node.cluster_id:
        node.cluster_id = uuid4().hex
        node.journal.append(_cluster_record(node.cluster_id))
    return node


def _assemble(settings: BrokerSettings, directory: DataDirectory, disk: Disk, clock: Clock) -> Node:
    journal = Journal(directory.journal_path, disk)
    durability = Durability(settings.fsync, journal)
    producer_ids = ProducerIds(journal)
    groups = GroupCoordinator(journal, settings.groups, clock)
    topics = Topics(
        directory,
        journal,
        disk,
        clock,
        default_partitions=settings.default_partitions,
        max_partitions=settings.max_partitions,
    )
    outcome = Outcome(topics, groups, clock)
    return Node(
        settings=settings,
        clock=clock,
        disk=disk,
        directory=directory,
        journal=journal,
        durability=durability,
        topics=topics,
        groups=groups,
        producer_ids=producer_ids,
        transactions=TransactionCoordinator(
            journal, durability, outcome, producer_ids, settings.transactions, clock
        ),
    )


def _replay(node: Node, record: Record) -> None:
    match record["kind"]:
        case "cluster":
            node.cluster_id = record["id"]
        case "producer_ids":
            node.producer_ids.replay(record)
        case "topic" | "topic_deleted" | "log_start":
            node.topics.replay(record)
            node.groups.replay(record)
        case "transaction" | "transaction_forgotten":
            node.transactions.replay(record)
        case _:
            node.groups.replay(record)


def _pull_back_offsets(node: Node) -> None:
    """After a power cut a log may end below a committed offset: what is appended from there on
    has not been read by the group, so the group must not skip it."""
    for group_id in node.groups.offsets:
        rows: dict[tuple[str, int], CommittedOffset] = {}
        for (topic, index), row in node.groups.offsets.of(group_id).items():
            if not node.topics.has(topic, index):
                continue
            end = node.topics.partition(topic, index).end_offset
            if row.offset > end:
                rows[topic, index] = CommittedOffset(
                    end, row.leader_epoch, row.metadata, row.committed_ms
                )
        if rows:
            _log.warning("committed_offsets_pulled_back", group=group_id, partitions=len(rows))
            node.groups.commit(group_id, rows)


def _cluster_record(cluster_id: str) -> Record:
    return {"kind": "cluster", "id": cluster_id}


def _quietly_sync(partition: Partition) -> None:
    try:
        partition.sync()
    except OSError:
        _log.error("sync_failed", directory=str(partition.directory))
