"""The record batch header (Kafka's format v2): the 61 bytes a broker looks at."""

import struct
from typing import Final, NamedTuple, Self

from crc32c import crc32c

from tidemill.broker.storage.disk import Buffer

_LAYOUT: Final = struct.Struct(">qiibIhiqqqhii")
HEADER_SIZE: Final = _LAYOUT.size
# Offset, length, leader epoch, magic and checksum are not covered by the checksum.
_CHECKED_FROM: Final = 21
_LENGTH_COUNTS_FROM: Final = 12
MAGIC: Final = 2
_CODEC_MASK: Final = 0x07
_LOG_APPEND_TIME: Final = 0x08
TRANSACTIONAL: Final = 0x10
CONTROL: Final = 0x20
_DELETE_HORIZON: Final = 0x40
ZSTD: Final = 4
NO_PRODUCER: Final = -1
_SEQUENCE_MASK: Final = 0x7FFFFFFF


class BatchHeader(NamedTuple):
    """The header's fields in wire order; `length` counts from the leader epoch on."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @classmethod
    def read(cls, buffer: Buffer, position: int = 0) -> Self:
        """Unpacks without checking; the buffer holds HEADER_SIZE bytes from `position` on."""
        return cls._make(_LAYOUT.unpack_from(buffer, position))

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.length + _LENGTH_COUNTS_FROM

    @property
    def last_offset(self) -> int:
        """Offset of the last record."""
        return self.base_offset + self.last_offset_delta

    @property
    def last_sequence(self) -> int:
        """Sequence number of the last record, as the producer counted; they wrap around."""
        return (self.base_sequence + self.last_offset_delta) & _SEQUENCE_MASK

    @property
    def codec(self) -> int:
        """Kafka's number of the compression codec; 0 is none."""
        return self.attributes & _CODEC_MASK

    @property
    def is_log_append_time(self) -> bool:
        """Whether every record carries `max_timestamp`, set by the broker."""
        return bool(self.attributes & _LOG_APPEND_TIME)

    @property
    def delete_horizon_ms(self) -> int | None:
        """When compaction may drop the batch's tombstones; None before it first saw them.

        It stands in the place of `base_timestamp`, which the records' times count from.
        """
        return self.base_timestamp if self.attributes & _DELETE_HORIZON else None

    def with_delete_horizon(self, time_ms: int) -> Self:
        """The header with that time; the records' times are to count from it."""
        return self._replace(attributes=self.attributes | _DELETE_HORIZON, base_timestamp=time_ms)

    @property
    def is_transactional(self) -> bool:
        """Whether the batch belongs to a transaction; markers do, too."""
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        """Whether the batch is a marker that ends a transaction, and nothing for readers."""
        return bool(self.attributes & CONTROL)

    def is_plausible(self) -> bool:
        """Whether the numbers can be a v2 batch at all; says nothing about the checksum."""
        return (
            self.magic == MAGIC
            and self.size >= HEADER_SIZE
            and self.last_offset_delta >= 0
            and 0 <= self.record_count <= self.last_offset_delta + 1
        )

    @property
    def is_whole(self) -> bool:
        """Whether every offset has its record: compaction leaves batches with fewer or none."""
        return self.record_count == self.last_offset_delta + 1

    def checksum_matches(self, buffer: Buffer, position: int = 0) -> bool:
        """Whether CRC-32C over the batch at `position` equals the header's."""
        covered = memoryview(buffer)[position + _CHECKED_FROM : position + self.size]
        return bool(crc32c(covered) == self.crc)

    def as_empty(self) -> Self:
        """The header of a batch without records that stands for the same offsets."""
        kept = self.attributes & ~(_CODEC_MASK | _DELETE_HORIZON)
        return self._replace(
            length=HEADER_SIZE - _LENGTH_COUNTS_FROM,
            attributes=kept,
            base_timestamp=-1,
            max_timestamp=-1,
            record_count=0,
        )

    def with_body(self, body: bytes, count: int, max_timestamp: int) -> Self:
        """The header of a batch for the same offsets with other records in it."""
        return self._replace(
            length=HEADER_SIZE - _LENGTH_COUNTS_FROM + len(body),
            max_timestamp=max_timestamp,
            record_count=count,
        )

    def pack(self) -> bytes:
        """The 61 bytes of this header."""
        return _LAYOUT.pack(*self)


def sealed_with_checksum(header: BatchHeader, records: Buffer) -> BatchHeader:
    """The header with the checksum that fits it and the records behind it."""
    covered = header.pack()[_CHECKED_FROM:]
    return header._replace(crc=crc32c(records, crc32c(covered)))


def stamp(
    header: BatchHeader, batch: Buffer, base_offset: int, append_time_ms: int | None
) -> tuple[BatchHeader, list[Buffer]]:
    """Gives a batch its place in the log; returns the new header and the chunks to write.

    With `append_time_ms` the batch also gets the broker's time, and a new checksum for it.
    """
    records = memoryview(batch)[HEADER_SIZE : header.size]
    header = header._replace(base_offset=base_offset, leader_epoch=0)
    if append_time_ms is not None:
        header = header._replace(
            attributes=header.attributes | _LOG_APPEND_TIME, max_timestamp=append_time_ms
        )
        header = sealed_with_checksum(header, records)
    return header, [header.pack(), records]
