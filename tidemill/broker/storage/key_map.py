"""The newest offset of each key in the part of a log that was not compacted yet."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from tidemill.broker.storage import records
from tidemill.broker.storage.batch import BatchHeader
from tidemill.broker.storage.disk import Buffer
from tidemill.broker.storage.pace import Pace
from tidemill.broker.storage.transaction_index import AbortedTransaction

_DIGEST_BYTES = 16


@dataclass(slots=True)
class KeyMap:
    """Keys by digest, at most `max_keys`, of offsets from `start` up to and without `end`."""

    start: int
    end: int
    max_keys: int
    pace: Pace
    _newest: dict[bytes, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._newest)

    def take(self, header: BatchHeader, body: Buffer) -> bool:
        """Takes in a batch's records; False if the map is full, then `end` is where it stopped.

        Raises IndexError where the bytes do not follow the format.
        """
        for record in self.pace.over(records.views(header, body)):
            offset = header.base_offset + record.offset_delta
            if offset >= self.end:
                return False
            if record.key is None or offset < self.start:
                continue
            digest = _digest(record.key)
            if len(self._newest) >= self.max_keys and digest not in self._newest:
                self.end = offset
                return False
            self._newest[digest] = offset
        return True

    def is_superseded(self, key: bytes, offset: int) -> bool:
        """Whether a newer record has this key."""
        return self._newest.get(_digest(key), -1) > offset


class AbortedRecords:
    """Which batches belong to aborted transactions."""

    def __init__(self, rows: list[AbortedTransaction]) -> None:
        self._rows: dict[int, list[tuple[int, int]]] = {}
        for row in rows:
            self._rows.setdefault(row.producer_id, []).append((row.first_offset, row.last_offset))

    def has(self, header: BatchHeader) -> bool:
        """Whether this batch's records were aborted."""
        if not header.is_transactional or header.is_control:
            return False
        return any(
            first <= header.base_offset <= last for first, last in self._of(header.producer_id)
        )

    def _of(self, producer_id: int) -> Iterator[tuple[int, int]]:
        yield from self._rows.get(producer_id, ())


def _digest(key: bytes) -> bytes:
    return blake2b(key, digest_size=_DIGEST_BYTES).digest()
