"""Opens a partition's folder: seals first, then a scan of what no seal vouches for."""

import contextlib
from pathlib import Path

import structlog

from tidemill.broker.storage import seal
from tidemill.broker.storage.disk import Disk
from tidemill.broker.storage.markers import read_marker
from tidemill.broker.storage.partition import Partition, note_marker
from tidemill.broker.storage.producers import ProducerStates
from tidemill.broker.storage.segment import LOG_SUFFIX, Segment

_log = structlog.get_logger(__name__)


def open_partition(directory: Path, disk: Disk, now_ms: int) -> Partition:
    """Opens or creates a partition and repairs what a crash left; raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    bases = sorted(int(path.stem) for path in directory.glob(f"*{LOG_SUFFIX}"))
    _remove_orphans(directory, bases)
    segments: list[Segment] = []
    producers = ProducerStates()
    while bases:
        segment = Segment(directory, bases.pop(0), disk)
        sealed = seal.restore(segment) if bases else None
        if sealed is None:
            bases = sorted({*bases, *_scan(segment, producers, now_ms)})
        producers = sealed or producers
        segments.append(segment)
    if not segments:
        segments.append(Segment(directory, 0, disk))
        segments[0].create(now_ms)
    segments[-1].created_ms = now_ms
    return Partition(directory, disk, segments, producers)


def _scan(segment: Segment, producers: ProducerStates, now_ms: int) -> list[int]:
    """Recovers one segment; returns the base offset of a segment that this split off, if any."""
    for header in segment.recover(segment.path.stat().st_size):
        if header.is_control:
            marker = read_marker(header, segment.last_batch(header))
            note_marker(segment, producers, marker, header.base_offset, now_ms)
        else:
            producers.note(header, now_ms)
    damage = segment.cut_tail()
    if damage is None:
        return []
    where = {"segment": str(segment.path), "offset": segment.next_offset, "bytes": damage.size}
    if damage.next_base_offset is None:
        _log.warning("torn_tail_cut", **where)
        return []
    _log.error("damaged_records_set_aside", kept_as=str(damage.kept_as), **where)
    return [damage.next_base_offset]


def _remove_orphans(directory: Path, bases: list[int]) -> None:
    for path in directory.glob(f"*{seal.SEAL_SUFFIX}"):
        if int(path.stem) not in bases:
            path.unlink()
    for path in directory.glob("*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
