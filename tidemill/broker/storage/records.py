"""Looks into one batch: its records' offsets, times and keys."""

from collections.abc import Iterator
from typing import NamedTuple

from tidemill.broker.storage import codecs
from tidemill.broker.storage.batch import HEADER_SIZE, BatchHeader
from tidemill.broker.storage.disk import Buffer
from tidemill.broker.storage.varints import read_varint, varint


class RecordView(NamedTuple):
    """One record of a batch; `raw` is all of it, `tail` what follows its time delta."""

    offset_delta: int
    time_delta: int
    key: bytes | None
    has_value: bool
    attributes: int
    raw: Buffer
    tail: Buffer

    def with_time_delta(self, delta: int) -> bytes:
        """The record's bytes with its time counted from elsewhere."""
        body = bytes([self.attributes]) + varint(delta) + bytes(self.tail)
        return varint(len(body)) + body


def plain_records(header: BatchHeader, batch: Buffer) -> Buffer | None:
    """The batch's records without compression; None if they cannot be had."""
    return codecs.decompress(header.codec, memoryview(batch)[HEADER_SIZE : header.size])


def views(header: BatchHeader, body: Buffer) -> Iterator[RecordView]:
    """Each record of a plain body; raises IndexError if it does not follow the format."""
    position = 0
    for _ in range(header.record_count):
        record, position = _view(body, position)
        yield record


def end_of(header: BatchHeader, body: Buffer) -> int:
    """Where the records end, going by their lengths; raises IndexError if they go beyond."""
    position = 0
    for _ in range(header.record_count):
        length, position = read_varint(body, position)
        position += length
        if length <= 0:
            raise IndexError
    return position


def first_at_or_after(batch: memoryview, timestamp: int) -> tuple[int, int]:
    """(offset, timestamp) of the batch's first record that is not older.

    The batch must hold one. For a batch that cannot be looked into whose first record is older
    the answer is the batch's first offset: at or before the exact one, never after it.
    """
    header = BatchHeader.read(batch)
    is_as_produced = header.is_whole and header.delete_horizon_ms is None
    if is_as_produced and header.is_log_append_time:
        return header.base_offset, header.max_timestamp
    if is_as_produced and header.base_timestamp >= timestamp:
        return header.base_offset, header.base_timestamp
    for offset_delta, time in _times(header, batch):
        if time >= timestamp:
            return header.base_offset + offset_delta, time
    return header.base_offset, header.max_timestamp


def _times(header: BatchHeader, batch: memoryview) -> list[tuple[int, int]]:
    rows: list[tuple[int, int]] = []
    body = plain_records(header, batch)
    if body is None:
        return rows
    try:
        for record in views(header, body):
            time = header.base_timestamp + record.time_delta
            if header.is_log_append_time:
                time = header.max_timestamp
            rows.append((record.offset_delta, time))
    except IndexError:
        pass  # Records that do not follow the format are the producer's; readers will say so.
    return rows


def _view(body: Buffer, start: int) -> tuple[RecordView, int]:
    length, position = read_varint(body, start)
    end = position + length
    if length < 0 or end > len(body):
        raise IndexError
    time_delta, tail_at = read_varint(body, position + 1)
    offset_delta, at = read_varint(body, tail_at)
    key_size, at = read_varint(body, at)
    key = None if key_size < 0 else bytes(body[at : at + key_size])
    value_size, _ = read_varint(body, at + max(key_size, 0))
    view = RecordView(
        offset_delta=offset_delta,
        time_delta=time_delta,
        key=key,
        has_value=value_size >= 0,
        attributes=body[position],
        raw=body[start:end],
        tail=body[tail_at:end],
    )
    return view, end
