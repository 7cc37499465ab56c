"""Compacts the topics that ask for it: chooses what is worth it, swaps segments between reads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import structlog

from tidemill.broker.clock import Clock
from tidemill.broker.storage import cleaning, replacement, seal
from tidemill.broker.storage.batch_filter import BatchFilter
from tidemill.broker.storage.cleaning import Cleaned, SegmentDamaged
from tidemill.broker.storage.disk import Disk
from tidemill.broker.storage.key_map import AbortedRecords, KeyMap
from tidemill.broker.storage.pace import Pace, Stopped
from tidemill.broker.storage.partition import Partition
from tidemill.broker.storage.segment import Segment
from tidemill.broker.topic_configs import CompactionRules
from tidemill.broker.topics import Topic, Topics

T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Progress:
    """How far a partition is compacted, and the file whose last steps a failing disk refused."""

    first_dirty: int = 0
    next_horizon_ms: int | None = None
    unfinished: Callable[[], None] | None = None


class Compaction:
    """One partition at a time, in one worker thread of its own.

    Progress is kept in memory: after a restart every compacted partition counts as dirty.
    """

    def __init__(self, topics: Topics, disk: Disk, clock: Clock, *, max_keys: int) -> None:
        self._topics = topics
        self._disk = disk
        self._clock = clock
        self._max_keys = max_keys
        self._progress: WeakKeyDictionary[Partition, _Progress] = WeakKeyDictionary()
        self._pace = Pace()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compaction")

    async def run(self) -> None:
        """Looks once at every partition of every compacted topic."""
        for topic in self._topics:
            if topic.configs.compaction is None:
                continue
            for partition in topic.partitions:
                try:
                    await self._look_at(topic, partition)
                except Stopped:
                    return
                except (OSError, SegmentDamaged) as error:
                    where = str(partition.directory)
                    _log.error("compaction_failed", directory=where, kind=type(error).__name__)

    def close(self) -> None:
        """Ends the work in hand; what it had begun is undone or finished at the next start."""
        self._pace.stop()
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _look_at(self, topic: Topic, partition: Partition) -> None:
        rules = topic.configs.compaction
        assert rules is not None  # noqa: S101  run looks at compacted topics alone
        progress = self._progress.setdefault(partition, _Progress())
        if progress.unfinished is not None:
            await self._finish(partition, progress, progress.unfinished)
        now_ms = self._clock.now_ms()
        _roll_when_old(
            partition, min(topic.configs.append_rules.segment_ms, rules.max_lag_ms), now_ms
        )
        segments = _cleanable(partition, now_ms - rules.min_lag_ms)
        if segments and _is_worth_it(segments, progress, rules, now_ms):
            max_bytes = topic.configs.append_rules.segment_bytes
            await self._compact(partition, segments, progress, rules, max_bytes)

    async def _compact(
        self,
        partition: Partition,
        segments: list[Segment],
        progress: _Progress,
        rules: CompactionRules,
        max_bytes: int,
    ) -> None:
        aborted = AbortedRecords([row for s in partition.segments for row in s.aborted])
        keys = await self._read_keys(segments, aborted, progress)
        batch_filter = BatchFilter(
            keys=keys,
            aborted=aborted,
            last_sequences=partition.producers.last_sequences(),
            now_ms=self._clock.now_ms(),
            delete_retention_ms=rules.delete_retention_ms,
        )
        before = partition.size
        # From old to new, and no further after a failure: what a tombstone deletes goes first.
        for group in list(cleaning.groups(segments, keys.end, max_bytes)):
            if not await self._replace(partition, group, batch_filter, progress):
                return
        progress.first_dirty = keys.end
        progress.next_horizon_ms = batch_filter.next_horizon_ms
        if partition.size != before:
            sizes = {"bytes_before": before, "bytes_after": partition.size, "keys": len(keys)}
            _log.info("partition_compacted", directory=str(partition.directory), **sizes)

    async def _read_keys(
        self, segments: list[Segment], aborted: AbortedRecords, progress: _Progress
    ) -> KeyMap:
        def read() -> KeyMap:
            for segment in segments:
                if segment.is_dirty:
                    segment.sync()
            return cleaning.read_keys(
                segments,
                aborted,
                self._pace,
                start=progress.first_dirty,
                end=segments[-1].next_offset,
                max_keys=self._max_keys,
            )

        return await self._work(read)

    async def _replace(
        self,
        partition: Partition,
        group: list[Segment],
        batch_filter: BatchFilter,
        progress: _Progress,
    ) -> bool:
        """Cleans one group; returns whether the next one may follow."""
        disk = self._disk
        following = partition.segments.index(group[-1]) + 1
        end = partition.segments[following].base_offset
        cleaned = await self._work(cleaning.clean, group, end, batch_filter, disk, self._pace)
        if cleaned is None:
            return True
        if partition.is_closed or not set(group) <= set(partition.segments):
            cleaning.discard(cleaned.new, cleaned.path, disk)
            return False
        partition.is_replacing = True
        try:
            swap = await self._work(replacement.promote, cleaned.path, cleaned.new.size, disk)
        except OSError:
            partition.is_replacing = False
            cleaning.discard(cleaned.new, cleaned.path, disk)
            raise
        partition.replace(cleaned.old, cleaned.new)
        await self._finish(partition, progress, _last_steps(cleaned, swap, disk))
        return True

    async def _finish(
        self, partition: Partition, progress: _Progress, steps: Callable[[], None]
    ) -> None:
        progress.unfinished = steps
        await self._work(steps)
        progress.unfinished = None
        partition.is_replacing = False

    async def _work(self, work: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, work, *args)


def _last_steps(cleaned: Cleaned, swap: Path, disk: Disk) -> Callable[[], None]:
    def finish() -> None:
        replacement.finish(swap, disk)
        if cleaned.producers is not None:
            seal.write(cleaned.new, seal.seal_of(cleaned.new, cleaned.producers), disk)

    return finish


def _roll_when_old(partition: Partition, max_age_ms: int, now_ms: int) -> None:
    """Closes the active segment of a topic that nobody writes to, or it would stay as it is."""
    active = partition.segments[-1]
    if active.size and now_ms - active.created_ms > max_age_ms:
        partition.roll(now_ms)


def _cleanable(partition: Partition, newest_ms: int) -> list[Segment]:
    """Full and sealed segments from the first one on, with no open transaction in them."""
    unsealed = [segment for segment, _ in partition.unsealed]
    found: list[Segment] = []
    for segment in partition.segments[:-1]:
        is_settled = segment.next_offset <= partition.stable_offset
        if segment in unsealed or not is_settled or segment.max_timestamp > newest_ms:
            break
        found.append(segment)
    return found


def _is_worth_it(
    segments: list[Segment], progress: _Progress, rules: CompactionRules, now_ms: int
) -> bool:
    if progress.next_horizon_ms is not None and progress.next_horizon_ms < now_ms:
        return True
    dirty = [segment for segment in segments if segment.next_offset > progress.first_dirty]
    if not dirty:
        return False
    if now_ms - dirty[0].max_timestamp > rules.max_lag_ms:
        return True
    dirty_bytes = sum(segment.size for segment in dirty)
    return dirty_bytes > rules.min_dirty_ratio * sum(segment.size for segment in segments)
