"""A model server by its wire contract (KServe v2 over gRPC) that is too slow, or that refuses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc


class KserveServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """refusal: the error message of every stream; without one a stream never says anything."""

    def __init__(self, refusal: str) -> None:
        self._refusal = refusal

    async def ModelStreamInfer(
        self, requests: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        async for _ in requests:
            if not self._refusal:
                await asyncio.Event().wait()
            yield service_pb2.ModelStreamInferResponse(error_message=self._refusal)


@asynccontextmanager
async def kserve_server(refusal: str = "") -> AsyncIterator[str]:
    """Its address."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(KserveServer(refusal), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
