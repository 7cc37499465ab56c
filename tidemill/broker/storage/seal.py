"""The file beside a full segment that spares the next start from scanning it."""

import json
from array import array
from dataclasses import dataclass
from typing import Any

from crc32c import crc32c

from tidemill.broker.storage.disk import Disk
from tidemill.broker.storage.producers import ProducerStates
from tidemill.broker.storage.segment import Segment
from tidemill.broker.storage.transaction_index import AbortedTransaction

SEAL_SUFFIX = ".seal"


@dataclass(frozen=True, slots=True)
class Seal:
    """What is known of a full segment, and the producers' state at its end."""

    size: int
    next_offset: int
    max_timestamp: int
    offsets: list[int]
    positions: list[int]
    times_before: list[int]
    producers: list[list[Any]]
    aborted: list[AbortedTransaction]


def seal_of(segment: Segment, producers: ProducerStates) -> Seal:
    """A snapshot, taken at the moment the segment is full."""
    return Seal(
        segment.size,
        segment.next_offset,
        segment.max_timestamp,
        segment.index.offsets.tolist(),
        segment.index.positions.tolist(),
        segment.index.times_before.tolist(),
        producers.dump(),
        list(segment.aborted),
    )


def write(segment: Segment, seal: Seal, disk: Disk) -> None:
    """Syncs the segment, then writes its seal: a seal always describes bytes on disk."""
    segment.sync()
    values = [getattr(seal, name) for name in Seal.__slots__]
    body = json.dumps(values, separators=(",", ":")).encode()
    path = segment.path.with_suffix(SEAL_SUFFIX)
    disk.replace(path, b"%08x\n%s" % (crc32c(body), body))


def restore(segment: Segment) -> ProducerStates | None:
    """Loads a segment from its seal; None if there is no sound seal, then it must be scanned.

    A seal of an earlier release knows less and is not taken either.
    """
    seal = _read(segment)
    if seal is None:
        return None
    segment.size, segment.next_offset = seal.size, seal.next_offset
    segment.max_timestamp = seal.max_timestamp
    segment.index.offsets = array("q", seal.offsets)
    segment.index.positions = array("q", seal.positions)
    segment.index.times_before = array("q", seal.times_before)
    segment.is_dirty = False
    segment.aborted = [AbortedTransaction(*row) for row in seal.aborted]
    return ProducerStates.load(seal.producers)


def producers_at_end(segment: Segment) -> ProducerStates | None:
    """The producers' state that a segment's seal keeps; None without a sound seal."""
    seal = _read(segment)
    return None if seal is None else ProducerStates.load(seal.producers)


def remove(segment: Segment, disk: Disk) -> None:
    """Removes the seal of a segment that is going away."""
    disk.remove(segment.path.with_suffix(SEAL_SUFFIX))


def _read(segment: Segment) -> Seal | None:
    path = segment.path.with_suffix(SEAL_SUFFIX)
    try:
        checksum, _, body = path.read_bytes().partition(b"\n")
        size = segment.path.stat().st_size
    except OSError:
        return None
    if checksum != b"%08x" % crc32c(body):
        return None
    values = json.loads(body)
    if len(values) != len(Seal.__slots__):
        return None
    seal = Seal(*values)
    return seal if seal.size == size else None
