"""Carries out what was decided of a transaction: markers first, then offsets."""

from collections.abc import Iterator

from tidemill.broker.clock import Clock
from tidemill.broker.groups.coordinator import GroupCoordinator
from tidemill.broker.storage.markers import Marker
from tidemill.broker.storage.partition import Partition
from tidemill.broker.topics import Topics
from tidemill.broker.transactions.transaction import Transaction


class Outcome:
    """Every step may be done again, after a failure or a restart, without another effect.

    Methods raise RequestRefused when the disk does not take it.
    """

    def __init__(self, topics: Topics, groups: GroupCoordinator, clock: Clock) -> None:
        self._topics = topics
        self._groups = groups
        self._clock = clock

    def mark(self, transaction: Transaction) -> Iterator[Partition]:
        """Ends it in each of its partitions; yields each one, to be synced."""
        marker = Marker(transaction.producer_id, transaction.epoch, transaction.is_commit)
        for topic, index in sorted(transaction.partitions):
            if self._topics.has(topic, index):
                yield self._end(topic, index, marker)

    def show_offsets(self, transaction: Transaction) -> None:
        """Makes the offsets of a committed one those of their groups."""
        for group_id, rows in transaction.offsets.items() if transaction.is_commit else ():
            present = {key: row for key, row in rows.items() if self._topics.has(*key)}
            self._groups.commit(group_id, present)

    def abort_unknown(self, known: set[tuple[int, str, int]]) -> int:
        """Ends what is open in a partition but not in the journal; returns how many those were.

        After a power cut the journal may be older than the log. Without this its readers would
        wait for ever. `known` holds producer id, topic and partition of what the journal has.
        """
        ended = 0
        for topic in self._topics:
            for index, partition in enumerate(topic.partitions):
                for producer_id in partition.producers.open:
                    if (producer_id, topic.name, index) not in known:
                        epoch = partition.producers.epoch_of(producer_id)
                        self._end(topic.name, index, Marker(producer_id, epoch, is_commit=False))
                        ended += 1
        return ended

    def _end(self, topic: str, index: int, marker: Marker) -> Partition:
        partition = self._topics.partition(topic, index)
        rules = self._topics.get(topic).configs.append_rules
        partition.end_transaction(marker, rules, self._clock.now_ms())
        return partition
