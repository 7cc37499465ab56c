"""Compaction of one partition: what stays, what goes, and what a crash at any step leaves."""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.broker.power_cut import PowerCutDisk, PowerIsOff
from tidemill.broker.compaction import Compaction
from tidemill.broker.errors import RequestRefused
from tidemill.broker.storage import codecs
from tidemill.broker.storage.batch import BatchHeader
from tidemill.broker.storage.disk import Disk
from tidemill.broker.storage.markers import Marker
from tidemill.broker.storage.partition_files import open_partition
from tidemill.broker.topic_configs import TopicConfigs
from tidemill.broker.topics import Topic

CONFIGS = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0",
    "delete.retention.ms": "1000",
    "internal.segment.bytes": "600",
}
Row = tuple[int, bytes | None, bytes | None, int]


class QuickDisk(Disk):
    """Leaves it to the kernel when bytes reach the disk: hundreds of histories are tried."""

    def sync(self, descriptor: int) -> None:
        pass

    def sync_directory(self, directory: Path) -> None:
        pass


class HandClock:
    """Time that tests move by hand."""

    def __init__(self) -> None:
        self.time_ms = 1_000_000

    def now_ms(self) -> int:
        return self.time_ms


@dataclass
class Log:
    """A partition with its compaction, and every record ever appended with its fate."""

    folder: Path
    disk: Disk = field(default_factory=QuickDisk)
    configs: dict[str, str] = field(default_factory=lambda: dict(CONFIGS))
    max_keys: int = 1_000
    clock: HandClock = field(default_factory=HandClock)
    written: list[Row] = field(default_factory=list)
    aborted: set[int] = field(default_factory=set)
    sequences: dict[int, int] = field(default_factory=dict)
    open_offsets: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reopen()

    def reopen(self) -> None:
        """As after kill -9: nothing is closed in order."""
        if hasattr(self, "compaction"):
            self.compaction.close()
        self.partition = open_partition(self.folder, self.disk, self.clock.now_ms())
        topic = Topic("t", uuid4(), TopicConfigs(self.configs), [self.partition])
        self.rules = topic.configs.append_rules
        topics = [topic]
        self.compaction = Compaction(topics, self.disk, self.clock, max_keys=self.max_keys)  # type: ignore[arg-type]

    def append(
        self, *pairs: tuple[bytes | None, bytes | None], codec: int = 0, producer: int = -1
    ) -> int:
        """One batch; producers from 100 on write in transactions."""
        is_transactional = producer >= 100
        epoch, sequence = (-1, -1) if producer < 0 else (0, self.sequences.get(producer, 0))
        builder = DefaultRecordBatchBuilder(
            2, codec, int(is_transactional), producer, epoch, sequence, 1 << 20
        )
        for index, (key, value) in enumerate(pairs):
            builder.append(index, self.clock.now_ms() + index, key, value, [])
        batch = bytes(builder.build())
        base = self.partition.append(batch, self.rules, self.clock.now_ms()).base_offset
        for index, (key, value) in enumerate(pairs):
            self.written.append((base + index, key, value, self.clock.now_ms() + index))
            if is_transactional:
                self.open_offsets.setdefault(producer, []).append(base + index)
        self.clock.time_ms += len(pairs)  # No record is of the future.
        if producer >= 0:
            self.sequences[producer] = sequence + len(pairs)
        return base

    def end(self, producer: int, *, commits: bool) -> None:
        """Ends the producer's transaction, if it has one."""
        marker = Marker(producer, 0, commits)
        self.partition.end_transaction(marker, self.rules, self.clock.now_ms())
        offsets = self.open_offsets.pop(producer, [])
        if not commits:
            self.aborted.update(offsets)

    def roll(self) -> None:
        if self.partition.segments[-1].size:
            self.partition.roll(self.clock.now_ms())

    def compact(self) -> None:
        self.partition.seal_full_segments()
        asyncio.run(self.compaction.run())

    def headers(self) -> Iterator[tuple[BatchHeader, bytes]]:
        """Every batch, as a consumer that follows offsets gets them."""
        offset = self.partition.start_offset
        while offset < self.partition.end_offset:
            batch = bytes(self.partition.read(offset, 1))
            assert batch, f"a reader is stuck at {offset}"
            header = BatchHeader.read(batch)
            assert header.checksum_matches(batch)
            assert header.last_offset >= offset
            yield header, batch
            offset = header.last_offset + 1

    def rows(self) -> list[Row]:
        """Every record there is, aborted ones too, as aiokafka decodes it."""
        rows: list[Row] = []
        for header, batch in self.headers():
            if header.is_control or not header.record_count:
                continue
            for record in DefaultRecordBatch(batch):
                rows.append((record.offset, record.key, record.value, record.timestamp))
        return rows

    def present(self) -> dict[bytes | None, bytes]:
        """The newest value of each key, as a reader of committed records sees it."""
        return _newest([row for row in self.rows() if row[0] not in self.aborted])

    def expected(self) -> dict[bytes | None, bytes]:
        return _newest([row for row in self.written if row[0] not in self.aborted])


def _newest(rows: list[Row]) -> dict[bytes | None, bytes]:
    values = {key: value for _, key, value, _ in rows}
    return {key: value for key, value in values.items() if value is not None}


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "p")


def test_the_newest_record_of_each_key_stays_at_its_offset(log: Log) -> None:
    for number in range(40):
        log.append((b"key-%d" % (number % 4), b"%d" % number))
    log.roll()
    log.compact()
    assert log.rows() == log.written[36:]
    assert log.partition.size < 600
    assert (log.partition.start_offset, log.partition.end_offset) == (0, 40)


def test_the_active_segment_and_open_transactions_are_left_alone(log: Log) -> None:
    log.append((b"a", b"1"), producer=100)
    log.roll()
    log.append((b"a", b"2"))
    log.append((b"a", b"3"))
    log.compact()
    assert len(log.rows()) == 3, "the transaction is open"
    log.end(100, commits=True)
    log.compact()
    assert [row[0] for row in log.rows()] == [0, 1, 2], "the newer ones are in the active segment"


def test_a_record_of_an_open_transaction_hides_nothing_yet(log: Log) -> None:
    log.append((b"a", b"committed"))
    log.append((b"a", b"open"), producer=100)
    log.roll()
    log.compact()
    log.end(100, commits=False)
    assert log.present() == log.expected() == {b"a": b"committed"}


def test_an_aborted_record_hides_nothing_and_goes(log: Log) -> None:
    log.append((b"a", b"committed"))
    log.append((b"a", b"aborted"), producer=100)
    log.end(100, commits=False)
    log.roll()
    log.compact()
    assert [row[2] for row in log.rows()] == [b"committed"]
    markers = [header for header, _ in log.headers() if header.is_control]
    assert len(markers) == 1, "markers stay"


def test_a_tombstone_goes_after_its_time_and_takes_its_key_along(log: Log) -> None:
    log.append((b"a", b"1"), (b"b", b"1"))
    log.append((b"a", None))
    log.roll()
    log.compact()
    assert [(row[1], row[2]) for row in log.rows()] == [(b"b", b"1"), (b"a", None)]
    assert log.rows() == [log.written[1], log.written[2]], "times are as they were"
    log.clock.time_ms += 900
    log.compact()
    assert len(log.rows()) == 2
    log.clock.time_ms += 200
    log.compact()
    assert [row[1] for row in log.rows()] == [b"b"]
    assert [header.last_offset for header, _ in log.headers()][-1] == 2, "readers reach the end"


def test_a_tombstones_time_survives_a_restart(log: Log) -> None:
    log.append((b"a", None), (b"b", b"1"))
    log.roll()
    log.compact()
    log.clock.time_ms += 900
    log.reopen()
    log.compact()
    log.clock.time_ms += 200
    log.compact()
    assert [row[1] for row in log.rows()] == [b"b"]


def test_an_idle_topic_is_compacted_once_its_segment_is_old(tmp_path: Path) -> None:
    log = Log(
        tmp_path / "p", configs={**CONFIGS, "segment.ms": "500", "internal.segment.bytes": "100000"}
    )
    for number in range(3):
        log.append((b"a", b"%d" % number))
    log.compact()
    assert len(log.rows()) == 3
    log.clock.time_ms += 501
    log.compact()
    log.compact()
    assert log.rows() == log.written[2:]


def test_young_records_wait_and_old_ones_do_not(tmp_path: Path) -> None:
    configs = {
        **CONFIGS,
        "min.compaction.lag.ms": "1000",
        "max.compaction.lag.ms": "5000",
        "min.cleanable.dirty.ratio": "1",
    }
    log = Log(tmp_path / "p", configs=configs)
    log.append((b"a", b"1"))
    log.append((b"a", b"2"))
    log.roll()
    log.compact()
    log.clock.time_ms += 4_900
    log.compact()
    assert len(log.rows()) == 2, "not dirty enough"
    log.clock.time_ms += 200
    log.compact()
    assert len(log.rows()) == 1, "the longest lag is over"


def test_producers_are_remembered_when_all_their_records_are_gone(log: Log) -> None:
    log.append((b"a", b"1"), (b"a", b"2"), producer=7)
    log.append((b"a", b"3"))
    log.roll()
    log.compact()
    assert [row[2] for row in log.rows()] == [b"3"]
    for path in log.folder.glob("*.seal"):
        path.unlink()  # What is known must come from the log itself.
    log.reopen()
    assert (7, 0, 1) in log.partition.producers.last_sequences()
    log.sequences[7] = 5
    with pytest.raises(RequestRefused):
        log.append((b"a", b"gap"), producer=7)
    log.sequences[7] = 2
    log.append((b"a", b"4"), producer=7)


@pytest.mark.parametrize("codec", [codecs.GZIP, codecs.SNAPPY, codecs.LZ4, codecs.ZSTD])
def test_compressed_batches_keep_their_codec(log: Log, codec: int) -> None:
    for number in range(6):
        pairs = [(b"%d" % key, b"%d" % number * 50) for key in range(number, 6)]
        log.append(*pairs, codec=codec)
    log.roll()
    log.compact()
    assert {header.codec for header, _ in log.headers()} == {codec}
    assert log.present() == log.expected()
    assert len(log.rows()) == 6


@pytest.mark.parametrize("codec", [codecs.GZIP, codecs.LZ4, codecs.ZSTD])
def test_a_batch_that_unpacks_beyond_the_limit_is_not_read(
    codec: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = codecs.compress(codec, bytes(5 << 20))
    monkeypatch.setattr(codecs, "_MAX_UNPACKED_BYTES", 4 << 20)
    assert codecs.decompress(codec, packed) is None
    monkeypatch.setattr(codecs, "_MAX_UNPACKED_BYTES", 6 << 20)
    assert codecs.decompress(codec, packed) == bytes(5 << 20)


def test_batches_that_cannot_be_read_stay_whole_and_keep_tombstones(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append((b"a", b"hidden"), codec=codecs.GZIP)
    log.append((b"a", b"2"))
    log.append((b"a", None))
    log.roll()
    monkeypatch.setattr(codecs, "is_readable", lambda codec: codec == codecs.NONE)
    log.compact()
    log.clock.time_ms += 10_000
    log.compact()
    assert [row[2] for row in log.rows()] == [b"hidden", None], "or the key would come back"


def test_records_without_a_key_are_refused_and_older_ones_go(log: Log) -> None:
    with pytest.raises(RequestRefused):
        log.append((b"a", b"1"), (None, b"2"))
    assert log.partition.end_offset == 0


def test_more_keys_than_fit_take_several_passes(tmp_path: Path) -> None:
    log = Log(tmp_path / "p", max_keys=5)
    for number in range(60):
        log.append((b"%d" % (number % 20), b"%d" % number))
    log.roll()
    for _ in range(20):
        log.compact()
    assert log.rows() == log.written[40:]


def test_a_damaged_segment_is_left_as_it_is(log: Log) -> None:
    for number in range(20):
        log.append((b"a", b"%d" % number))
    log.roll()
    log.partition.seal_full_segments()
    path = log.partition.segments[1].path
    content = bytearray(path.read_bytes())
    content[80] ^= 1
    path.write_bytes(content)
    log.compact()
    assert path.read_bytes() == bytes(content)
    assert not list(log.folder.glob("*.cleaned")) + list(log.folder.glob("*.swap"))


def test_small_segments_are_put_together(log: Log) -> None:
    for number in range(30):
        log.append((b"%d" % number, b"x"))
        log.roll()
    log.compact()
    assert len(log.partition.segments) < 8
    assert log.rows() == log.written
    log.reopen()
    assert log.rows() == log.written


KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
VALUES = st.one_of(st.none(), st.binary(max_size=40))
STEPS = st.one_of(
    st.tuples(
        st.just("append"),
        st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=4),
        st.sampled_from([0, codecs.GZIP]),
        st.sampled_from([-1, -1, 1, 2, 100, 101]),
    ),
    st.tuples(st.just("end"), st.sampled_from([100, 101]), st.booleans()),
    st.tuples(st.just("roll")),
    st.tuples(st.just("compact")),
    st.tuples(st.just("wait"), st.sampled_from([10, 600, 2_000])),
    st.tuples(st.just("reopen")),
)


def _take(log: Log, step: tuple) -> None:  # type: ignore[type-arg]
    match step:
        case ("append", pairs, codec, producer):
            log.append(*pairs, codec=codec, producer=producer)
        case ("end", producer, commits):
            log.end(producer, commits=commits)
        case ("roll",):
            log.roll()
        case ("compact",):
            log.compact()
        case ("wait", milliseconds):
            log.clock.time_ms += milliseconds
        case ("reopen",):
            log.reopen()


def _assert_sound(log: Log) -> None:
    """What must hold at any time: offsets, order, CRCs, no key lost or come back."""
    rows = log.rows()
    originals = {row[0]: row for row in log.written}
    assert all(originals[row[0]] == row for row in rows)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert log.present() == log.expected()
    for first in range(log.partition.start_offset, log.partition.end_offset):
        assert BatchHeader.read(log.partition.read(first, 1)).last_offset >= first
    sequences = {p: (n - 1) for p, n in log.sequences.items()}
    known = {p: last for p, _, last in log.partition.producers.last_sequences()}
    assert known == sequences


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, min_size=5, max_size=40), max_keys=st.sampled_from([1, 3, 100]))
def test_any_history_keeps_the_newest_committed_value_of_every_key(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple],
    max_keys: int,  # type: ignore[type-arg]
) -> None:
    log = Log(tmp_path_factory.mktemp("log") / "p", max_keys=max_keys)
    for step in steps:
        _take(log, step)
        _assert_sound(log)
    for producer in (100, 101):
        log.end(producer, commits=True)
    log.roll()
    for _ in range(len(log.written) if max_keys < 100 else 2):
        log.compact()
    _assert_sound(log)
    committed = [row for row in log.rows() if row[0] not in log.aborted]
    assert len({row[1] for row in committed}) == len(committed), "one record a key is left"
    assert not log.aborted & {row[0] for row in log.rows()}


def _history(log: Log) -> None:
    for number in range(24):
        log.append((b"%d" % (number % 3), b"%d" % number), producer=1)
    log.append((b"0", None), producer=100)
    log.end(100, commits=False)
    log.append((b"1", None))
    log.roll()


def _history_of_equals(log: Log) -> None:
    """What is left of two segments is as long as the first one was: its seal must not fit."""
    for number in range(8):
        log.append((b"a", b"%d" % number))
        log.roll()


@pytest.mark.parametrize("history", [_history, _history_of_equals])
@pytest.mark.parametrize("cuts_power", [False, True], ids=["kill -9", "power cut"])
def test_a_crash_at_every_step_leaves_the_old_segments_or_the_new_ones(
    tmp_path: Path, cuts_power: bool, history: Callable[[Log], None]
) -> None:
    step, ended = 0, False
    while not ended:
        step += 1
        root = tmp_path / str(step)
        disk = PowerCutDisk(root)
        log = Log(root / "p", disk=disk)
        history(log)
        log.partition.seal_full_segments()
        log.partition.sync()
        log.configs["internal.segment.bytes"] = "1500"  # So that segments are put together.
        log.reopen()
        disk.stop_after = disk.changes + step
        try:
            log.compact()
            ended = True
        except PowerIsOff:
            pass
        _assert_recovered(log, root, tmp_path / f"{step}-after", random.Random(step), cuts_power)
        disk.close()
    assert step > 10


def _assert_recovered(
    log: Log, root: Path, target: Path, chance: random.Random, cuts_power: bool
) -> None:
    if cuts_power:
        log.disk.cut(target, lambda n: chance.randint(0, n))  # type: ignore[attr-defined]
        log.folder = target / "p"
    log.disk = QuickDisk()
    log.reopen()
    _assert_sound(log)
    log.compact()
    log.roll()
    log.compact()
    _assert_sound(log)
    leftovers = [*log.folder.glob("*.cleaned"), *log.folder.glob("*.swap")]
    assert not leftovers
    offsets = [row[0] for row in log.rows()]
    assert len(offsets) == len(set(offsets)), "a record is there twice"
