"""Hands out producer ids, each once in the life of the data directory."""

from collections.abc import Iterator

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.storage.journal import Journal, Record

BLOCK = 1_000


class ProducerIds:
    """Ids come from journaled blocks; a restart begins a new block, so none comes twice."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._next = 0
        self._end = 0

    def allocate(self) -> int:
        """A new id; raises RequestRefused if the block cannot be journaled."""
        if self._next >= self._end:
            self._reserve()
        producer_id = self._next
        self._next += 1
        return producer_id

    def replay(self, record: Record) -> None:
        """Takes one journal record."""
        self._next = self._end = max(self._end, record["end"])

    def snapshot(self) -> Iterator[Record]:
        """Journal records that give the present state."""
        yield {"kind": "producer_ids", "end": self._end}

    def _reserve(self) -> None:
        end = self._end + BLOCK
        try:
            self._journal.append({"kind": "producer_ids", "end": end})
            # An id given twice would make one producer's records look like another's retries.
            self._journal.sync()
        except OSError as error:
            raise RequestRefused(ErrorCode.coordinator_not_available) from error
        self._next, self._end = self._end, end
