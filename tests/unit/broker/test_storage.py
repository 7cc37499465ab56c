"""Segments on disk: rolling, recovery, torn tails, flipped bits, seals."""

import time
from pathlib import Path

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.storage.batch import BatchHeader
from tidemill.broker.storage.disk import Disk
from tidemill.broker.storage.partition import AppendRules, Partition
from tidemill.broker.storage.partition_files import open_partition

RULES = AppendRules(
    max_message_bytes=1 << 20, segment_bytes=4_000, segment_ms=1 << 40, log_append_time=False
)
ONE_SEGMENT = AppendRules(
    max_message_bytes=1 << 20, segment_bytes=1 << 30, segment_ms=1 << 40, log_append_time=False
)


def _batch(value: bytes, *, producer_id: int = -1, sequence: int = -1, time_ms: int = 0) -> bytes:
    epoch = 0 if producer_id >= 0 else -1
    builder = DefaultRecordBatchBuilder(2, 0, 0, producer_id, epoch, sequence, 1 << 20)
    builder.append(0, time_ms or int(time.time() * 1000), None, value, [])
    return bytes(builder.build())


def _fill(partition: Partition, count: int, rules: AppendRules = RULES, size: int = 500) -> None:
    for _ in range(count):
        value = b"%06d" % partition.end_offset + b"x" * size
        partition.append(_batch(value), rules, now_ms=1)


def _offsets(partition: Partition) -> list[int]:
    offsets, offset = [], partition.start_offset
    while offset < partition.end_offset:
        data = partition.read(offset, 1)
        header = BatchHeader.read(data)
        assert header.checksum_matches(data)
        offsets.append(header.base_offset)
        offset = header.last_offset + 1
    return offsets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "partition"


@pytest.fixture
def partition(folder: Path) -> Partition:
    return open_partition(folder, Disk(), now_ms=1)


def _reopen(partition: Partition) -> Partition:
    partition.close()
    return open_partition(partition.directory, Disk(), now_ms=1)


def test_full_segments_are_named_after_their_first_offset(partition: Partition) -> None:
    _fill(partition, 20)
    names = sorted(path.name for path in partition.directory.glob("*.log"))
    assert names[0] == f"{0:020d}.log"
    assert len(names) == len(partition.segments) > 2
    assert _offsets(partition) == list(range(20))


@pytest.mark.parametrize("sealed", [True, False])
def test_everything_is_there_after_reopening(partition: Partition, sealed: bool) -> None:
    _fill(partition, 20)
    if sealed:
        partition.seal_full_segments()
    again = _reopen(partition)
    assert _offsets(again) == list(range(20))
    _fill(again, 5)
    assert _offsets(again) == list(range(25))


def test_sealed_segments_are_not_scanned_again(partition: Partition) -> None:
    _fill(partition, 20)
    partition.seal_full_segments()
    partition.close()
    first = partition.segments[0].path
    damaged = bytearray(first.read_bytes())
    damaged[100] ^= 1
    first.write_bytes(damaged)
    again = open_partition(partition.directory, Disk(), now_ms=1)
    assert again.segments[0].size == len(damaged), "the seal vouches for it"
    assert [s.index.positions for s in again.segments[:-1]] == [
        s.index.positions for s in partition.segments[:-1]
    ]


@pytest.mark.parametrize("ruin", ["cut", "garbage", "absent"])
def test_a_seal_that_is_not_sound_is_not_believed(partition: Partition, ruin: str) -> None:
    _fill(partition, 20)
    partition.seal_full_segments()
    for path in partition.directory.glob("*.seal"):
        if ruin == "absent":
            path.unlink()
        else:
            content = path.read_bytes()
            path.write_bytes(content[:-3] if ruin == "cut" else b"0" * len(content))
    assert _offsets(_reopen(partition)) == list(range(20))


@pytest.mark.parametrize("missing", [1, 30, 60, 61, 400])
def test_a_torn_last_batch_is_cut(partition: Partition, missing: int) -> None:
    _fill(partition, 3, ONE_SEGMENT)
    partition.close()
    path = partition.segments[-1].path
    path.write_bytes(path.read_bytes()[:-missing])
    again = open_partition(partition.directory, Disk(), now_ms=1)
    assert _offsets(again) == [0, 1]
    assert path.stat().st_size == again.segments[-1].size
    _fill(again, 1, ONE_SEGMENT)
    assert _offsets(_reopen(again)) == [0, 1, 2]
    assert not list(partition.directory.glob("*.damaged*"))


def test_zeros_after_the_last_batch_are_cut(partition: Partition) -> None:
    _fill(partition, 3, ONE_SEGMENT)
    partition.close()
    path = partition.segments[-1].path
    path.write_bytes(path.read_bytes() + bytes(5_000))
    assert _offsets(open_partition(partition.directory, Disk(), now_ms=1)) == [0, 1, 2]


def test_a_flipped_bit_costs_its_batch_alone_and_the_bytes_are_kept(partition: Partition) -> None:
    _fill(partition, 10, ONE_SEGMENT)
    partition.close()
    path = partition.segments[-1].path
    content = bytearray(path.read_bytes())
    size = len(content) // 10
    content[4 * size + 300] ^= 4
    path.write_bytes(content)
    again = open_partition(partition.directory, Disk(), now_ms=1)
    assert _read_through(again) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    (kept,) = partition.directory.glob("*.damaged*")
    assert kept.read_bytes() == bytes(content[4 * size : 5 * size])
    _fill(again, 1, ONE_SEGMENT)
    assert _read_through(_reopen(again)) == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]


def test_a_flipped_bit_in_the_length_is_survived_too(partition: Partition) -> None:
    _fill(partition, 10, ONE_SEGMENT)
    partition.close()
    path = partition.segments[-1].path
    content = bytearray(path.read_bytes())
    size = len(content) // 10
    content[4 * size + 9] ^= 0x40
    path.write_bytes(content)
    again = open_partition(partition.directory, Disk(), now_ms=1)
    assert _read_through(again) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def _read_through(partition: Partition) -> list[int]:
    """Offsets of all batches, over gaps, as a consumer reads them."""
    offsets, offset = [], partition.start_offset
    while offset < partition.end_offset:
        header = BatchHeader.read(partition.read(offset, 1))
        offsets.append(header.base_offset)
        offset = header.last_offset + 1
    return offsets


def test_producers_are_known_again_after_reopening(partition: Partition) -> None:
    batches = [_batch(b"x" * 500, producer_id=7, sequence=n) for n in range(20)]
    for batch in batches:
        partition.append(batch, RULES, now_ms=1)
    partition.seal_full_segments()
    again = _reopen(partition)
    assert again.append(batches[19], RULES, now_ms=1).base_offset == 19
    assert again.end_offset == 20
    with pytest.raises(RequestRefused) as refused:
        again.append(_batch(b"x", producer_id=7, sequence=25), RULES, now_ms=1)
    assert refused.value.code is ErrorCode.out_of_order_sequence_number


def test_an_empty_active_segment_keeps_the_end(partition: Partition) -> None:
    _fill(partition, 20)
    partition.expire(older_than_ms=1 << 60, keep_bytes=None, now_ms=1)
    assert (partition.start_offset, partition.end_offset) == (20, 20)
    again = _reopen(partition)
    assert (again.start_offset, again.end_offset) == (20, 20)


def test_reads_return_whole_batches_within_the_limit_or_one(partition: Partition) -> None:
    _fill(partition, 200, ONE_SEGMENT, size=100)
    size = len(_batch(b"000000" + b"x" * 100))
    for limit in (1, size, 3 * size, 10_000):
        for offset in (0, 1, 77, 199):
            data = partition.read(offset, limit)
            assert BatchHeader.read(data).base_offset == offset
            assert len(data) % size == 0
            assert len(data) <= max(limit, size)
    assert len(partition.read(0, 1 << 30)) == 200 * size
    assert len(partition.read(5, 10, at_least_one=False)) == 0
    assert len(partition.read(200, 1 << 20)) == 0


def test_times_are_found_across_segments_and_restarts(partition: Partition) -> None:
    for index in range(50):
        partition.append(_batch(b"x" * 300, time_ms=1_000 + index * 10), RULES, now_ms=1)
    partition.seal_full_segments()
    for log in (partition, _reopen(partition)):
        assert [log.find_time(1_000 + 10 * n) for n in (0, 17, 49)] == [
            (0, 1_000),
            (17, 1_170),
            (49, 1_490),
        ]
        assert log.find_time(1_491) is None
        assert log.find_latest_time() == (49, 1_490)
