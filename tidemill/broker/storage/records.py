"""Looks into one batch for the first record at or after a time."""

import zlib

from tidemill.broker.storage.batch import HEADER_SIZE, BatchHeader

_UNCOMPRESSED = 0
_GZIP = 1


def first_at_or_after(batch: memoryview, timestamp: int) -> tuple[int, int]:
    """(offset, timestamp) of the batch's first record that is not older.

    The batch must hold one. For snappy, lz4 and zstd batches whose first record is older the
    answer is the batch's first offset: at or before the exact one, never after it.
    """
    header = BatchHeader.read(batch)
    if header.is_log_append_time:
        return header.base_offset, header.max_timestamp
    if header.base_timestamp >= timestamp:
        return header.base_offset, header.base_timestamp
    body = _plain_records(header, batch[HEADER_SIZE : header.size])
    if body is not None:
        for offset_delta, time_delta in _deltas(body, header.record_count):
            if header.base_timestamp + time_delta >= timestamp:
                return header.base_offset + offset_delta, header.base_timestamp + time_delta
    return header.base_offset, header.max_timestamp


def _plain_records(header: BatchHeader, body: memoryview) -> bytes | memoryview | None:
    if header.codec == _UNCOMPRESSED:
        return body
    if header.codec == _GZIP:
        try:
            return zlib.decompressobj(wbits=31).decompress(body, 64 << 20)
        except zlib.error:
            return None
    return None


def _deltas(body: bytes | memoryview, count: int) -> list[tuple[int, int]]:
    rows: list[tuple[int, int]] = []
    position = 0
    try:
        for _ in range(count):
            length, position = _varint(body, position)
            time_delta, after = _varint(body, position + 1)
            offset_delta, _ = _varint(body, after)
            rows.append((offset_delta, time_delta))
            position += length
    except IndexError:
        pass  # Records that do not follow the format are the producer's; readers will say so.
    return rows


def _varint(body: bytes | memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
