"""Every file of the broker, cut off at every byte: nothing before the tear is lost."""

import shutil
from pathlib import Path

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from tidemill.broker.errors import StartupRefused
from tidemill.broker.storage.disk import Disk
from tidemill.broker.storage.journal import Journal
from tidemill.broker.storage.partition import AppendRules, Partition
from tidemill.broker.storage.partition_files import open_partition
from tidemill.broker.storage.replacement import cleaned_path, promote

RULES = AppendRules(
    max_message_bytes=1 << 20, segment_bytes=250, segment_ms=1 << 40, log_append_time=False
)


def _append(partition: Partition, count: int) -> None:
    for _ in range(count):
        builder = DefaultRecordBatchBuilder(2, 0, 0, 1, 0, partition.end_offset, 1 << 20)
        builder.append(0, 1, b"key", b"%d" % partition.end_offset, [])
        partition.append(bytes(builder.build()), RULES, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three full segments with seals, and an active one: 10 records."""
    partition = open_partition(tmp_path / "p", Disk(), 1)
    _append(partition, 10)
    partition.seal_full_segments()
    partition.close()
    assert len(partition.segments) == 4
    return partition.directory


def _opened(folder: Path) -> Partition:
    """Opened, read through, written on, opened again: always the same records."""
    partition = open_partition(folder, Disk(), 1)
    end = partition.end_offset
    _append(partition, 1)
    partition.close()
    again = open_partition(folder, Disk(), 1)
    again.close()
    assert again.end_offset == end + 1
    assert not list(folder.glob("*.damaged*"))
    return again


def _copies(source: Path, torn: str) -> list[tuple[int, Path]]:
    """For each shorter size of a file a copy of the folder in which it has that size."""
    content = (source / torn).read_bytes()
    copies = []
    for size in range(len(content)):
        target = source.parent / f"{torn}-{size}"
        shutil.copytree(source, target)
        (target / torn).write_bytes(content[:size])
        copies.append((size, target))
    return copies


def test_a_log_cut_anywhere_in_its_last_batch_loses_that_batch_alone(folder: Path) -> None:
    active = max(folder.glob("*.log"))
    for size, copy in _copies(folder, active.name):
        partition = _opened(copy)
        whole = size // active.stat().st_size
        assert 9 + whole <= partition.end_offset <= 11


def test_a_seal_cut_anywhere_costs_a_scan_and_no_record(folder: Path) -> None:
    seal = sorted(folder.glob("*.seal"))[1]
    for _, copy in _copies(folder, seal.name)[::23]:
        assert _opened(copy).end_offset == 11


def test_a_compacted_file_cut_anywhere_never_counts(folder: Path) -> None:
    first, second = sorted(folder.glob("*.log"))[:2]
    cleaned = cleaned_path(folder, int(first.stem), int(second.stem))
    shutil.copy(first, cleaned)
    for _, copy in _copies(folder, cleaned.name)[::23]:
        assert _opened(copy).end_offset == 11
        assert not list(copy.glob("*.cleaned"))


def test_a_swap_file_cut_anywhere_is_set_aside_and_the_old_segments_stay(folder: Path) -> None:
    logs = sorted(folder.glob("*.log"))
    cleaned = cleaned_path(folder, int(logs[0].stem), int(logs[2].stem))
    cleaned.write_bytes(logs[0].read_bytes() + logs[1].read_bytes())
    swap = promote(cleaned, cleaned.stat().st_size, Disk())
    for _, copy in _copies(folder, swap.name)[::23]:
        partition = open_partition(copy, Disk(), 1)
        assert (len(partition.segments), partition.end_offset) == (4, 10)
        partition.close()
        assert list(copy.glob("*.damaged-swap"))
    assert len(_opened(folder).segments) == 3, "a whole one takes its place"


def test_a_journal_cut_anywhere_in_its_last_line_loses_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, Disk())
    for number in range(3):
        journal.append({"kind": "test", "number": number})
    journal.close()
    content = path.read_bytes()
    start = content.rindex(b"\n", 0, -1) + 1
    for size in range(start, len(content)):
        path.write_bytes(content[:size])
        torn = Journal(path, Disk())
        assert [record["number"] for record in torn.replay()] == [0, 1]
        torn.append({"kind": "test", "number": 2})
        torn.close()
        assert path.read_bytes() == content


def test_a_journal_with_a_hole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, Disk())
    for number in range(3):
        journal.append({"kind": "test", "number": number})
    journal.close()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    damaged = Journal(path, Disk())
    with pytest.raises(StartupRefused):
        list(damaged.replay())
    damaged.close()
