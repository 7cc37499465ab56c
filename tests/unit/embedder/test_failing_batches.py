"""When one batch of an embedding fails, the others end with it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tidemill.modelserver.client import EMBED_CALLS, EMBED_ROWS, ModelServer
from tidemill.modelserver.errors import ModelServerUnavailable

BATCHES = 8


class Embedder(service_pb2_grpc.GRPCInferenceServiceServicer):
    """By Triton's wire contract. The call of that number fails, the others never end."""

    def __init__(self, fails: int) -> None:
        self._fails = fails
        self.begun = 0
        self.running = 0
        self.left = asyncio.Event()

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        self.begun += 1
        if self.begun == self._fails:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        if self._fails == 0:
            return answer(request)
        self.running += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.running -= 1
            self.left.set()


def answer(request: Any) -> Any:
    """Vectors whose first number is the length of their text."""
    raw, lengths = request.raw_input_contents[0], []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        lengths.append(size)
        raw = raw[4 + size :]
    vectors = np.array([[length, 0] for length in lengths], np.float32)
    reply = service_pb2.ModelInferResponse(raw_output_contents=[vectors.tobytes()])
    reply.outputs.add(name="embedding", datatype="FP32", shape=vectors.shape)
    return reply


@asynccontextmanager
async def served(embedder: Embedder) -> AsyncIterator[ModelServer]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(embedder, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with ModelServer(f"127.0.0.1:{port}") as client:
        yield client
    await server.stop(None)


@pytest.mark.parametrize("fails", [1, 2])
async def test_no_batch_is_begun_or_left_running_after_a_failure(fails: int) -> None:
    embedder, started = Embedder(fails), time.monotonic()
    async with served(embedder) as client:
        with pytest.raises(ModelServerUnavailable):
            await client.embed(["text"] * EMBED_ROWS * BATCHES, timeout=60.0)
        assert time.monotonic() - started < 30
        async with asyncio.timeout(10):
            await embedder.left.wait()
        assert (embedder.begun, embedder.running) == (EMBED_CALLS, 0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if "work" in repr(task.get_coro())]


async def test_vectors_come_in_the_order_of_the_texts() -> None:
    texts = ["x" * (1 + n * 37 % 101) for n in range(EMBED_ROWS * 3 + 5)]
    async with served(Embedder(fails=0)) as client:
        vectors = await client.embed(texts, timeout=10.0)
    assert vectors[:, 0].tolist() == [float(len(text)) for text in texts]
