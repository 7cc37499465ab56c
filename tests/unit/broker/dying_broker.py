"""A broker process that kills itself in the middle of a write, some writes after a decision."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from tidemill.broker.embedded import EmbeddedBroker
from tidemill.broker.settings import BrokerSettings, FsyncPolicy, GroupLimits
from tidemill.broker.storage.disk import Buffer, Disk


class DyingDisk(Disk):
    """Once the outcome of a transaction is being written, counts down and then kills -9."""

    def __init__(self, writes: int) -> None:
        self._left = writes
        self._is_counting = False

    def write_at(self, descriptor: int, position: int, chunks: Sequence[Buffer]) -> None:
        whole = b"".join(chunks)
        self._is_counting = self._is_counting or b'"state":"Prepare' in whole
        if self._is_counting and self._left == 0:
            os.pwrite(descriptor, whole[: len(whole) // 2], position)
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= self._is_counting
        super().write_at(descriptor, position, [whole])


async def serve(arguments: argparse.Namespace) -> None:
    settings = BrokerSettings(
        data_dir=arguments.data_dir,
        port=0,
        fsync=FsyncPolicy(arguments.fsync),
        groups=GroupLimits(initial_delay_ms=0),
    )
    async with EmbeddedBroker(settings, disk=DyingDisk(arguments.writes)) as broker:
        sys.stdout.write(f"ready {broker.bootstrap}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--writes", type=int, required=True)
    parser.add_argument("--fsync", default="never")
    asyncio.run(serve(parser.parse_args()))
