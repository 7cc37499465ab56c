"""Control batches: the one record that ends a producer's transaction in a partition."""

import struct
from dataclasses import dataclass
from typing import Final

from tidemill.broker.storage.batch import (
    CONTROL,
    HEADER_SIZE,
    MAGIC,
    TRANSACTIONAL,
    BatchHeader,
    sealed_with_checksum,
)
from tidemill.broker.storage.disk import Buffer

_ABORT: Final = 0
_COMMIT: Final = 1
# Length 16, no attributes, deltas of 0; a key of 4 bytes: version and type; a value of 6 bytes:
# version and the coordinator's epoch; no headers. Lengths and deltas are zigzag varints.
_RECORD: Final = struct.Struct(">BBBBBhhBhiB")
_TYPE: Final = struct.Struct(">h")
_TYPE_AT: Final = HEADER_SIZE + 7
_NOT_COUNTED_IN_LENGTH: Final = 12
_NO_SEQUENCE: Final = -1


@dataclass(frozen=True, slots=True)
class Marker:
    """How a producer's transaction ended."""

    producer_id: int
    epoch: int
    is_commit: bool


def marker_batch(marker: Marker, base_offset: int, now_ms: int) -> tuple[BatchHeader, list[Buffer]]:
    """The batch to append, as header and chunks to write."""
    kind = _COMMIT if marker.is_commit else _ABORT
    record = _RECORD.pack(16 << 1, 0, 0, 0, 4 << 1, 0, kind, 6 << 1, 0, 0, 0)
    header = BatchHeader(
        base_offset=base_offset,
        length=HEADER_SIZE + len(record) - _NOT_COUNTED_IN_LENGTH,
        leader_epoch=0,
        magic=MAGIC,
        crc=0,
        attributes=TRANSACTIONAL | CONTROL,
        last_offset_delta=0,
        base_timestamp=now_ms,
        max_timestamp=now_ms,
        producer_id=marker.producer_id,
        producer_epoch=marker.epoch,
        base_sequence=_NO_SEQUENCE,
        record_count=1,
    )
    header = sealed_with_checksum(header, record)
    return header, [header.pack(), record]


def read_marker(header: BatchHeader, batch: Buffer) -> Marker:
    """What a control batch of this broker says."""
    (kind,) = _TYPE.unpack_from(batch, _TYPE_AT)
    return Marker(header.producer_id, header.producer_epoch, kind == _COMMIT)
