"""Opens a partition's folder: seals first, then a scan of what no seal vouches for."""

import contextlib
from pathlib import Path

import structlog

from tidemill.broker.storage import seal
from tidemill.broker.storage.disk import Disk
from tidemill.broker.storage.partition import Partition
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
    for base_offset in bases:
        segment = Segment(directory, base_offset, disk)
        is_active = base_offset == bases[-1]
        producers = _load(segment, producers, is_active=is_active, now_ms=now_ms)
        segments.append(segment)
    if not segments:
        segments.append(Segment(directory, 0, disk))
        segments[0].create(now_ms)
    segments[-1].created_ms = now_ms
    return Partition(directory, disk, segments, producers)


def _load(
    segment: Segment, producers: ProducerStates, *, is_active: bool, now_ms: int
) -> ProducerStates:
    if not is_active:
        sealed = seal.restore(segment)
        if sealed is not None:
            return sealed
    for header in segment.recover(segment.path.stat().st_size):
        producers.note(header, now_ms)
    damage = segment.cut_tail()
    if damage is not None:
        _report(segment, damage.size, damage.kept_as)
    if not is_active:
        segment.close()
    return producers


def _report(segment: Segment, size: int, kept_as: Path | None) -> None:
    where = {"segment": str(segment.path), "next_offset": segment.next_offset, "bytes": size}
    if kept_as is None:
        _log.warning("torn_tail_cut", **where)
    else:
        _log.error("damaged_records_set_aside", kept_as=str(kept_as), **where)


def _remove_orphans(directory: Path, bases: list[int]) -> None:
    for path in directory.glob(f"*{seal.SEAL_SUFFIX}"):
        if int(path.stem) not in bases:
            path.unlink()
    for path in directory.glob("*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
