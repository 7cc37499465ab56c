"""What happens by the clock: syncs, seals, retention, timeouts, rewriting the journal."""

import asyncio
from collections.abc import Callable

import structlog

from tidemill.broker.compaction import Compaction
from tidemill.broker.node import Node
from tidemill.broker.settings import FsyncPolicy
from tidemill.broker.topics import Topic

_log = structlog.get_logger(__name__)


class Maintenance:
    """Loops for the life of a node; a full disk makes them try again, not stop."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._compaction = Compaction(
            node.topics, node.disk, node.clock, max_keys=node.settings.compaction_max_keys
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts the loops."""
        settings = self._node.settings
        abort_ms, abort = settings.transactions.check_ms, self._node.transactions.expire
        self._tasks = [
            asyncio.create_task(self._every(settings.fsync_interval_ms, self._store)),
            asyncio.create_task(self._every(settings.retention_check_ms, self._clean)),
            asyncio.create_task(self._every(settings.retention_check_ms, self._compaction.run)),
            asyncio.create_task(self._every(abort_ms, abort)),
        ]

    async def close(self) -> None:
        """Stops the loops."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._compaction.close()

    async def _every(self, interval_ms: int, work: Callable[[], object]) -> None:
        while True:
            await asyncio.sleep(interval_ms / 1000)
            try:
                result = work()
                if asyncio.iscoroutine(result):
                    await result
            except Exception:
                _log.exception("maintenance_failed")

    async def _store(self) -> None:
        node = self._node
        partitions = node.partitions()
        if node.settings.fsync is FsyncPolicy.INTERVAL:
            await node.durability.flush(p for p in partitions if p.is_dirty)
        for partition in partitions:
            if partition.unsealed:
                await asyncio.to_thread(partition.seal_full_segments)
        if node.journal.wants_rewrite:
            node.compact_journal()

    def _clean(self) -> None:
        now_ms = self._node.clock.now_ms()
        for topic in self._node.topics:
            self._expire(topic, now_ms)
        self._node.groups.expire()

    def _expire(self, topic: Topic, now_ms: int) -> None:
        configs = topic.configs
        retention_ms = configs.retention_ms
        for index, partition in enumerate(topic.partitions):
            removed = partition.expire(
                older_than_ms=None if retention_ms is None else now_ms - retention_ms,
                keep_bytes=configs.retention_bytes,
                now_ms=now_ms,
            )
            partition.producers.expire(now_ms - self._node.settings.producer_expiry_ms)
            partition.close_full_segments()
            if removed:
                _log.info("segments_expired", topic=topic.name, partition=index, segments=removed)
