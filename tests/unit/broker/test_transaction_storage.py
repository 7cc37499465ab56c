"""Open and aborted transactions in a partition's files: reopening, retention, deletion."""

from pathlib import Path

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.storage.batch import BatchHeader
from tidemill.broker.storage.disk import Disk
from tidemill.broker.storage.markers import Marker
from tidemill.broker.storage.partition import AppendRules, Partition
from tidemill.broker.storage.partition_files import open_partition

RULES = AppendRules(
    max_message_bytes=1 << 20, segment_bytes=2_000, segment_ms=1 << 40, log_append_time=False
)
NOW_MS = 1_000


@pytest.fixture
def partition(tmp_path: Path) -> Partition:
    return open_partition(tmp_path / "partition", Disk(), NOW_MS)


class Writer:
    """A producer that numbers its batches; `write` returns the offset."""

    def __init__(self, partition: Partition, producer_id: int, *, transactional: bool) -> None:
        self.partition = partition
        self.producer_id = producer_id
        self._transactional = transactional
        self._sequence = 0

    def write(self, *, transactional: bool | None = None, time_ms: int = NOW_MS) -> int:
        kind = self._transactional if transactional is None else transactional
        epoch, sequence = (-1, -1) if self.producer_id < 0 else (0, self._sequence)
        builder = DefaultRecordBatchBuilder(
            2, 0, int(kind), self.producer_id, epoch, sequence, 9_999
        )
        builder.append(0, time_ms, None, b"x" * 300, [])
        appended = self.partition.append(bytes(builder.build()), RULES, NOW_MS)
        self._sequence += 1
        return appended.base_offset

    def end(self, *, is_commit: bool, time_ms: int = NOW_MS) -> None:
        marker = Marker(self.producer_id, 0, is_commit)
        assert self.partition.end_transaction(marker, RULES, time_ms)


def _visible(partition: Partition) -> list[int]:
    """Offsets a reader of committed records is left with, as clients work it out."""
    offsets: list[int] = []
    at = partition.start_offset
    while True:
        records, aborted = partition.read_committed(at, 1)
        if not records:
            return offsets
        header = BatchHeader.read(records)
        skip = any(
            row.producer_id == header.producer_id
            and row.first_offset <= header.base_offset < row.last_offset
            for row in aborted
        )
        if not skip and not header.is_control:
            offsets.append(header.base_offset)
        at = header.last_offset + 1


def _reopened(partition: Partition, *, sealed: bool) -> Partition:
    if sealed:
        partition.seal_full_segments()
    partition.close()
    return open_partition(partition.directory, Disk(), NOW_MS)


def _filled(partition: Partition) -> list[int]:
    """Over several segments: committed, aborted and plain records, and one left open."""
    plain = Writer(partition, -1, transactional=False)
    kept, dropped, left_open = (Writer(partition, n, transactional=True) for n in (1, 2, 3))
    visible = []
    for number in range(12):
        visible += [plain.write(), kept.write()]
        dropped.write()
        if number % 3 == 2:
            kept.end(is_commit=True)
        if number % 4 == 3:
            dropped.end(is_commit=False)
    left_open.write()
    plain.write()
    return visible


@pytest.mark.parametrize("sealed", [True, False])
def test_readers_see_the_same_after_reopening(partition: Partition, sealed: bool) -> None:
    visible = _filled(partition)
    assert len(partition.segments) > 4
    assert _visible(partition) == visible
    stable = partition.stable_offset
    assert stable == partition.end_offset - 2, "the one that was left open, and the plain one"
    aborted = [segment.aborted for segment in partition.segments]
    again = _reopened(partition, sealed=sealed)
    assert again.stable_offset == stable
    assert [segment.aborted for segment in again.segments] == aborted
    assert sum(map(len, aborted)) == 3
    assert _visible(again) == visible
    assert again.end_transaction(Marker(3, 0, is_commit=True), RULES, NOW_MS)
    assert again.stable_offset == again.end_offset
    assert len(_visible(again)) == len(visible) + 2


def test_a_seal_of_an_earlier_release_is_not_taken(partition: Partition) -> None:
    visible = _filled(partition)
    partition.seal_full_segments()
    for path in partition.directory.glob("*.seal"):
        checksummed = path.read_bytes().partition(b"\n")[2]
        body = checksummed[: checksummed.rindex(b",[")] + b"]"
        path.write_bytes(b"%08x\n%s" % (_crc(body), body))
    assert _visible(_reopened(partition, sealed=False)) == visible


def _crc(body: bytes) -> int:
    from crc32c import crc32c

    return crc32c(body)


def test_a_marker_is_written_once(partition: Partition) -> None:
    writer = Writer(partition, 1, transactional=True)
    writer.write()
    writer.end(is_commit=True)
    end = partition.end_offset
    assert not partition.end_transaction(Marker(1, 0, is_commit=True), RULES, NOW_MS)
    again = _reopened(partition, sealed=False)
    assert not again.end_transaction(Marker(1, 0, is_commit=True), RULES, NOW_MS)
    assert again.end_offset == end


def test_the_oldest_open_transaction_decides_how_far_readers_see(partition: Partition) -> None:
    first, second = (Writer(partition, n, transactional=True) for n in (1, 2))
    first.write()
    second.write()
    first.write()
    assert partition.stable_offset == 0
    assert not partition.read_committed(0, 1 << 20)[0]
    second.end(is_commit=True)
    assert (partition.stable_offset, partition.end_offset) == (0, 4)
    first.end(is_commit=True)
    assert partition.stable_offset == partition.end_offset == 5


def test_retention_and_deletion_move_the_stable_offset_with_the_start(
    partition: Partition,
) -> None:
    dropped, left_open = (Writer(partition, n, transactional=True) for n in (1, 2))
    plain = Writer(partition, -1, transactional=False)
    left_open.write(time_ms=1)
    dropped.write(time_ms=1)
    dropped.end(is_commit=False, time_ms=1)
    later = [plain.write(time_ms=9_000) for _ in range(20)]
    assert partition.stable_offset == 0
    assert partition.expire(older_than_ms=5_000, keep_bytes=None, now_ms=NOW_MS) == 0
    partition.delete_before(later[10])
    assert partition.stable_offset == partition.start_offset == later[10]
    assert _visible(partition) == [], "it is open still"
    assert not any(segment.aborted for segment in partition.segments)
    again = _reopened(partition, sealed=True)
    again.delete_before(later[10])
    assert again.end_transaction(Marker(2, 0, is_commit=False), RULES, NOW_MS)
    assert _visible(again) == later[10:]


def test_an_aborted_transaction_whose_beginning_expired_is_skipped_still(
    partition: Partition,
) -> None:
    dropped = Writer(partition, 1, transactional=True)
    plain = Writer(partition, -1, transactional=False)
    for _ in range(8):
        dropped.write(time_ms=1)
    begun = [dropped.write(time_ms=9_000) for _ in range(3)]
    dropped.end(is_commit=False, time_ms=9_000)
    last = plain.write(time_ms=9_000)
    assert partition.expire(older_than_ms=5_000, keep_bytes=None, now_ms=NOW_MS) > 0
    assert 0 < partition.start_offset <= begun[0]
    assert _visible(partition) == [last]
    assert _visible(_reopened(partition, sealed=False)) == [last]


def test_producers_with_an_open_transaction_are_not_forgotten(partition: Partition) -> None:
    idle, writer = (
        Writer(partition, 1, transactional=False),
        Writer(partition, 2, transactional=True),
    )
    idle.write()
    writer.write()
    partition.producers.expire(seen_before_ms=NOW_MS + 1)
    assert [row[0] for row in partition.producers.dump()] == [2]


def test_a_plain_batch_amid_a_transaction_is_refused(partition: Partition) -> None:
    writer = Writer(partition, 1, transactional=True)
    writer.write()
    with pytest.raises(RequestRefused) as refused:
        writer.write(transactional=False)
    assert refused.value.code is ErrorCode.invalid_txn_state
    writer.end(is_commit=True)
    assert writer.write(transactional=False) == 2


def test_a_read_ends_before_the_first_open_transaction(partition: Partition) -> None:
    plain, writer = (
        Writer(partition, -1, transactional=False),
        Writer(partition, 1, transactional=True),
    )
    plain.write()
    whole = len(partition.read(0, 1 << 20))
    writer.write()
    plain.write()
    records, _ = partition.read_committed(0, 1 << 20)
    assert (len(records), BatchHeader.read(records).last_offset) == (whole, 0)


@pytest.mark.parametrize("is_commit", [True, False])
def test_a_long_transaction_around_short_aborted_ones(
    partition: Partition, is_commit: bool
) -> None:
    long, short = (Writer(partition, n, transactional=True) for n in (1, 2))
    begun = long.write()
    for _ in range(30):
        short.write()
        short.end(is_commit=False)
    long.end(is_commit=is_commit)
    _, aborted = partition.read_committed(begun, 1)
    assert len(aborted) < 6, "those behind what was read are not named"
    assert (1 in {row.producer_id for row in aborted}) is not is_commit
    assert _visible(partition) == ([begun] if is_commit else [])


def test_readers_are_told_only_of_transactions_that_concern_them(partition: Partition) -> None:
    writer = Writer(partition, 1, transactional=True)
    for _ in range(30):
        writer.write()
        writer.end(is_commit=False)
    _, near_the_start = partition.read_committed(0, 1)
    assert 1 <= len(near_the_start) < 6
    _, in_the_middle = partition.read_committed(30, 1)
    assert in_the_middle[0].first_offset == 30
    _, at_the_end = partition.read_committed(59, 1)
    assert [row.first_offset for row in at_the_end] == [58]
