"""Opens a partition's folder: seals first, then a scan of what no seal vouches for."""

from pathlib import Path

import structlog

from tidemill.broker.storage import replacement, seal
from tidemill.broker.storage.disk import Disk
from tidemill.broker.storage.markers import read_marker
from tidemill.broker.storage.partition import Partition, note_marker
from tidemill.broker.storage.producers import ProducerStates
from tidemill.broker.storage.segment import LOG_SUFFIX, Damage, Segment

_log = structlog.get_logger(__name__)


def open_partition(directory: Path, disk: Disk, now_ms: int) -> Partition:
    """Opens or creates a partition and repairs what a crash left; raises OSError."""
    disk.make_directories(directory)
    replacement.recover(directory, disk)
    bases = sorted(int(path.stem) for path in directory.glob(f"*{LOG_SUFFIX}"))
    _remove_orphans(directory, bases, disk)
    segments: list[Segment] = []
    producers = ProducerStates()
    while bases:
        segment = Segment(directory, bases.pop(0), disk)
        sealed = seal.restore(segment) if bases else None
        if sealed is None:
            bases = _bases_after(segment, bases, _scan(segment, producers, now_ms), disk)
        producers = sealed or producers
        segments.append(segment)
    if not segments:
        segments.append(Segment(directory, 0, disk))
        segments[0].create(now_ms)
    segments[-1].created_ms = now_ms
    return Partition(directory, disk, segments, producers)


def _scan(segment: Segment, producers: ProducerStates, now_ms: int) -> Damage | None:
    """Recovers one segment; returns what had to be taken out of it."""
    for header in segment.recover(segment.path.stat().st_size):
        if header.is_control:
            marker = read_marker(header, segment.last_batch(header))
            note_marker(segment, producers, marker, header.base_offset, now_ms)
        else:
            producers.note(header, now_ms)
    damage = segment.cut_tail()
    if damage is None:
        return None
    where = {"segment": str(segment.path), "offset": segment.next_offset, "bytes": damage.size}
    if damage.next_base_offset is None:
        _log.warning("torn_tail_cut", **where)
    else:
        _log.error("damaged_records_set_aside", kept_as=str(damage.kept_as), **where)
    return damage


def _bases_after(
    segment: Segment, bases: list[int], damage: Damage | None, disk: Disk
) -> list[int]:
    """The segments to open after this one."""
    if damage is None:
        return bases
    if damage.next_base_offset is not None:
        return sorted({*bases, damage.next_base_offset})
    # Syncs go from old to new: if none behind the torn tail is sealed, then none was promised,
    # and records that jump over lost ones would look to their producers like a gap.
    following = [segment.path.with_name(f"{base:020d}{LOG_SUFFIX}") for base in bases]
    if any(path.with_suffix(seal.SEAL_SUFFIX).exists() for path in following):
        return bases
    for path, base in zip(following, bases, strict=True):
        if path.stat().st_size:
            disk.rename(path, path.with_suffix(f".damaged-{base}"))
            _log.error("records_behind_torn_tail_set_aside", segment=str(path))
        else:
            disk.remove(path)
    # Were they back after the next power cut, they would lie behind other records.
    disk.sync_directory(segment.path.parent)
    return []


def _remove_orphans(directory: Path, bases: list[int], disk: Disk) -> None:
    for path in directory.glob(f"*{seal.SEAL_SUFFIX}"):
        if int(path.stem) not in bases:
            disk.remove(path)
    for path in directory.glob("*.tmp"):
        disk.remove(path)
