"""When written bytes are forced to disk: never, every so often, or before each answer."""

import asyncio
from collections.abc import Iterable

import structlog
from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.settings import FsyncPolicy
from tidemill.broker.storage.journal import Journal
from tidemill.broker.storage.partition import Partition

_log = structlog.get_logger(__name__)


class Durability:
    """Applies the fsync policy; the waiting happens in worker threads, never on the loop."""

    def __init__(self, policy: FsyncPolicy, journal: Journal) -> None:
        self._policy = policy
        self._journal = journal

    async def confirm(self, partition: Partition) -> None:
        """Before a produce is answered: under ALWAYS, waits until its records are on disk.

        Raises RequestRefused. A partition whose sync failed takes no more records until the
        broker restarts: the kernel may have dropped the pages, so a later sync proves nothing.
        """
        if self._policy is not FsyncPolicy.ALWAYS:
            return
        try:
            await asyncio.to_thread(partition.sync)
        except OSError as error:
            _log.error("sync_failed", directory=str(partition.directory))
            raise RequestRefused(ErrorCode.kafka_storage_error, "a sync failed") from error

    async def confirm_journal(self) -> None:
        """Before a commit or an admin request is answered; raises RequestRefused."""
        if self._policy is not FsyncPolicy.ALWAYS or self._journal.is_synced:
            return
        try:
            await asyncio.to_thread(self._journal.sync)
        except OSError as error:
            raise RequestRefused(ErrorCode.coordinator_not_available) from error

    async def flush(self, partitions: Iterable[Partition]) -> None:
        """The periodic sync under INTERVAL: records first, then what refers to them."""
        for partition in partitions:
            try:
                await asyncio.to_thread(partition.sync)
            except OSError:
                # Acknowledged already, and written back by the kernel perhaps: work goes on.
                partition.is_failed = False
                _log.error("sync_failed", directory=str(partition.directory))
        if self._journal.is_dirty:
            try:
                await asyncio.to_thread(self._journal.sync)
            except OSError:
                _log.error("journal_sync_failed")
