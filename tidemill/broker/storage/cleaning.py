"""Compacts full segments: reads keys, writes what is left. For a worker thread, file by file."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from tidemill.broker.storage import records, scan, seal
from tidemill.broker.storage.batch import BatchHeader
from tidemill.broker.storage.batch_filter import BatchFilter
from tidemill.broker.storage.disk import Buffer, Disk
from tidemill.broker.storage.key_map import AbortedRecords, KeyMap
from tidemill.broker.storage.pace import Pace
from tidemill.broker.storage.producers import ProducerStates
from tidemill.broker.storage.replacement import cleaned_path
from tidemill.broker.storage.segment import Segment

_log = structlog.get_logger(__name__)


class SegmentDamaged(Exception):
    """A full segment has bytes that are no batch; it is left as it is."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A written and synced file that may take the place of `old`; producers are as there."""

    old: list[Segment]
    new: Segment
    path: Path
    producers: ProducerStates | None


def read_keys(
    segments: list[Segment],
    aborted: AbortedRecords,
    pace: Pace,
    *,
    start: int,
    end: int,
    max_keys: int,
) -> KeyMap:
    """The keys of all records between two offsets, or as many as fit; raises OSError."""
    keys = KeyMap(start, end, max_keys, pace)
    for segment in segments:
        if segment.next_offset <= start:
            continue
        for header, batch in batches(segment, pace):
            if header.last_offset < start or header.is_control or aborted.has(header):
                continue
            body = records.plain_records(header, batch)
            if body is not None and not _take(keys, header, body):
                return keys
    return keys


def groups(segments: list[Segment], end: int, max_bytes: int) -> Iterator[list[Segment]]:
    """Adjoining segments that begin below `end` and together fit into one."""
    group: list[Segment] = []
    for segment in segments:
        if segment.base_offset >= end:
            break
        if group and sum(s.size for s in group) + segment.size > max_bytes:
            yield group
            group = []
        group.append(segment)
    if group:
        yield group


def clean(
    group: list[Segment], end: int, batch_filter: BatchFilter, disk: Disk, pace: Pace
) -> Cleaned | None:
    """Writes what is left of a group of segments; None if that would change nothing.

    Raises OSError or SegmentDamaged, after which nothing is left of the new file.
    """
    path = cleaned_path(group[0].path.parent, group[0].base_offset, end)
    new = Segment(path.parent, group[0].base_offset, disk)
    new.create(0, path)
    try:
        is_changed = len(group) > 1
        for segment in group:
            is_changed |= _copy(segment, new, batch_filter, pace, is_last=segment is group[-1])
        if is_changed:
            new.sync_in_place()
            new.aborted = [row for segment in group for row in segment.aborted]
            return Cleaned(group, new, path, seal.producers_at_end(group[-1]))
    except BaseException:
        discard(new, path, disk)
        raise
    discard(new, path, disk)
    return None


def discard(new: Segment, path: Path, disk: Disk) -> None:
    """Takes back a file that nothing will use."""
    new.close()
    disk.remove(path)


def batches(segment: Segment, pace: Pace) -> Iterator[tuple[BatchHeader, Buffer]]:
    """Every batch of a full segment with its bytes; raises SegmentDamaged or OSError."""
    descriptor = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    position = 0
    try:
        for position, header in scan.batches(descriptor, 0, segment.size, verify=True):
            yield header, memoryview(os.pread(descriptor, header.size, position))
            pace.step()
            position += header.size
    finally:
        os.close(descriptor)
    if position != segment.size:
        raise SegmentDamaged(str(segment.path))


def _take(keys: KeyMap, header: BatchHeader, body: Buffer) -> bool:
    # Records that do not follow the format shadow nothing; the filter leaves them whole.
    with contextlib.suppress(IndexError):
        return keys.take(header, body)
    return True


def _copy(
    segment: Segment, new: Segment, batch_filter: BatchFilter, pace: Pace, *, is_last: bool
) -> bool:
    """Appends what is left of a segment; returns whether that differs."""
    is_changed = False
    for header, batch in batches(segment, pace):
        ends_group = is_last and header.last_offset + 1 == segment.next_offset
        left = batch_filter.left_of(header, batch, is_last=ends_group)
        if left is not None:
            new.append(*left)
        is_changed |= left is None or left[0].crc != header.crc
    return is_changed
