"""A Milvus server that is away or hangs is a dependency that is unavailable, and its return is
noticed soon, however long it was away."""

import asyncio
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from services.retriever.adapters.vector_store import Entity, VectorStore
from tests import milvus
from tests.ports import free_port_base
from tidemill.faults import Fault, Reason

AWAY_SECONDS = 17.0
"""By then the library would wait ten seconds between two attempts to connect."""
NOTICED_SECONDS = 4.0


async def write(store: VectorStore) -> None:
    """As the retriever does it for a version."""
    await store.create_collection("chunks", 8)
    await store.upsert("chunks", [Entity("a", 1, np.ones(8, np.float32))])


async def fault_of(store: VectorStore) -> Fault | None:
    try:
        await write(store)
    except Fault as fault:
        return fault
    return None


async def test_a_server_that_comes_back_is_noticed_soon(tmp_path: Path) -> None:
    port = free_port_base()
    server = await asyncio.to_thread(milvus.start, tmp_path, port)
    async with VectorStore(f"http://127.0.0.1:{port}", 5.0) as store:
        await write(store)
        server.kill()
        server.wait()
        end = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < end:
            assert await fault_of(store)
            await asyncio.sleep(0.5)
        server = await asyncio.to_thread(milvus.start, tmp_path, port)
        try:
            back = time.monotonic()
            while await fault_of(store):  # noqa: ASYNC110
                await asyncio.sleep(0.5)
            assert time.monotonic() - back < NOTICED_SECONDS
        finally:
            server.kill()
            server.wait()


async def test_a_server_that_hangs_is_a_retryable_fault_within_the_deadline(
    tmp_path: Path,
) -> None:
    port = free_port_base()
    server = await asyncio.to_thread(milvus.start, tmp_path, port)
    try:
        async with VectorStore(f"http://127.0.0.1:{port}", 1.0) as store:
            await write(store)
            server.send_signal(signal.SIGSTOP)
            for _ in range(2):
                with pytest.raises(Fault) as away:
                    await write(store)
                assert away.value.reason is Reason.DEPENDENCY_UNAVAILABLE
                assert away.value.retryable
            server.send_signal(signal.SIGCONT)
            await asyncio.sleep(1.0)
            assert await fault_of(store) is None
    finally:
        server.kill()
        server.wait()
