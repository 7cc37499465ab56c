"""What the guard does around a servicer: deadlines, cancels, errors without their text."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tidemill.api.embedder.v1 import EmbedderServiceServicer, EmbedderServiceStub, EmbedRequest
from tidemill.api.embedder.v1 import EmbedResponse as EmbedReply
from tidemill.api.embedder.v1.embedder_service_pb2_grpc import (
    add_EmbedderServiceServicer_to_server,
)
from tidemill.api.inference.v1 import (
    GenerateRequest,
    GenerateResponse,
    InferenceServiceServicer,
    InferenceServiceStub,
)
from tidemill.api.inference.v1.inference_service_pb2_grpc import (
    add_InferenceServiceServicer_to_server,
)
from tidemill.clock import SystemClock
from tidemill.faults import Fault, Reason, StartRefused
from tidemill.rpc import call, open_server, stream
from tidemill.rpc.access import access_of
from tidemill.security.keys import load_or_create_key
from tidemill.security.tokens import Identity
from tidemill.telemetry import open_telemetry

SECRET = "text of a document"


class Embedder(EmbedderServiceServicer):
    """Fails as it is told to."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.started = asyncio.Event()

    async def Embed(self, request: EmbedRequest, context: Any) -> EmbedReply:
        wish = request.texts[0]
        if wish == "bug":
            raise ValueError(SECRET)
        if wish == "group":
            raise ExceptionGroup(SECRET, [Fault(Reason.OVERLOADED)])
        if wish == "fault":
            raise Fault(Reason.EMBEDDING_MODEL_MISMATCH, model="minilm")
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return EmbedReply()


class Inference(InferenceServiceServicer):
    """Streams without an end, or fails after the first answer."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def Generate(
        self, request: GenerateRequest, context: Any
    ) -> AsyncIterator[GenerateResponse]:
        try:
            yield GenerateResponse()
            if request.question == "fault":
                raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="triton")
            while request.question != "end":
                await asyncio.sleep(0.01)
                yield GenerateResponse()
        finally:
            self.closed.set()


class Served:
    """Stubs and servicers of one open server."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.embedder = Embedder()
        self.inference = Inference()
        self.registry: Any = None
        self.channel: Any = None
        self.port = 0

    def token(self, path: str) -> str:
        rule = access_of(path)
        assert rule is not None
        return self.identity.mint("acme", [rule.scope])

    async def embed(self, wish: str, timeout: float = 5.0) -> Any:
        token = self.token("/tidemill.api.embedder.v1.EmbedderService/Embed")
        stub = EmbedderServiceStub(self.channel)
        return await call(stub.Embed, EmbedRequest(texts=[wish]), token=token, timeout=timeout)

    def generate(self, wish: str, timeout: float = 5.0) -> AsyncIterator[Any]:
        token = self.token("/tidemill.api.inference.v1.InferenceService/Generate")
        stub = InferenceServiceStub(self.channel)
        request = GenerateRequest(question=wish)
        return stream(stub.Generate, request, token=token, timeout=timeout)


@pytest.fixture
async def served(tmp_path: Path, mesh_settings: Any) -> AsyncIterator[Served]:
    served = Served(Identity(load_or_create_key(tmp_path / "keys"), "test", SystemClock()))
    verifier = served.identity.verifier
    with open_telemetry("test", tmp_path, metrics_port=None) as telemetry:
        served.registry = telemetry.registry
        settings = mesh_settings(tmp_path)
        async with open_server(settings, 0, verifier, telemetry, SystemClock()) as server:
            add_EmbedderServiceServicer_to_server(served.embedder, server.grpc)
            add_InferenceServiceServicer_to_server(served.inference, server.grpc)
            await server.start(["tidemill.api.embedder.v1.EmbedderService"])
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                served.channel, served.port = channel, server.port
                yield served


async def refusal(work: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        await work
    return caught.value


async def drained(answers: AsyncIterator[Any]) -> int:
    return len([answer async for answer in answers])


async def test_a_fault_reaches_the_caller_with_its_metadata(served: Served) -> None:
    fault = await refusal(served.embed("fault"))
    assert fault.reason is Reason.EMBEDDING_MODEL_MISMATCH
    assert fault.metadata == {"model": "minilm"}


async def test_a_bug_reaches_the_caller_without_its_text(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    token = served.token("/tidemill.api.embedder.v1.EmbedderService/Embed")
    stub = EmbedderServiceStub(served.channel)
    metadata = (("authorization", f"Bearer {token}"),)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Embed(EmbedRequest(texts=["bug"]), metadata=metadata, timeout=5)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert SECRET not in str(caught.value) + str(caught.value.trailing_metadata())


async def test_the_fault_inside_a_task_group_is_found(served: Served) -> None:
    assert (await refusal(served.embed("group"))).reason is Reason.OVERLOADED


async def test_work_stops_at_the_callers_deadline(served: Served) -> None:
    assert (await refusal(served.embed("hang", timeout=0.3))).reason is Reason.DEADLINE_EXCEEDED
    async with asyncio.timeout(5):
        await served.embedder.cancelled.wait()


async def test_work_stops_when_the_caller_cancels(served: Served) -> None:
    asking = asyncio.create_task(served.embed("hang"))
    async with asyncio.timeout(5):
        await served.embedder.started.wait()
        asking.cancel()
        await served.embedder.cancelled.wait()


async def test_a_stream_ends_with_its_fault(served: Served) -> None:
    fault = await refusal(drained(served.generate("fault")))
    assert fault.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert await drained(served.generate("end")) == 1


async def test_a_stream_that_its_reader_leaves_is_cleaned_up(served: Served) -> None:
    answers = served.generate("endless")
    async for _ in answers:
        break
    await answers.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        await served.inference.closed.wait()


async def test_a_stream_ends_at_its_deadline(served: Served) -> None:
    fault = await refusal(drained(served.generate("endless", timeout=0.5)))
    assert fault.reason is Reason.DEADLINE_EXCEEDED
    async with asyncio.timeout(5):
        await served.inference.closed.wait()


async def test_calls_are_measured_by_method_and_code(served: Served, eventually: Any) -> None:
    await refusal(served.embed("fault"))
    labels = {"method": "EmbedderService/Embed", "code": "EMBEDDING_MODEL_MISMATCH"}

    async def measured() -> bool:
        samples = [s for metric in served.registry.collect() for s in metric.samples]
        found = [s for s in samples if s.name == "tidemill_rpc_duration_seconds_count"]
        return any(labels.items() <= s.labels.items() and s.value == 1 for s in found)

    await eventually(measured)


async def test_a_server_that_is_not_there_is_a_retryable_fault(served: Served) -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as nobody:
        served.channel = nobody
        fault = await refusal(served.embed("x", timeout=2))
    assert fault.retryable


async def test_a_second_server_on_the_port_is_refused(
    served: Served, tmp_path: Path, mesh_settings: Any
) -> None:
    with open_telemetry("second", tmp_path, metrics_port=None) as telemetry:
        verifier, settings = served.identity.verifier, mesh_settings(tmp_path)
        async with open_server(settings, served.port, verifier, telemetry, SystemClock()) as server:
            with pytest.raises(StartRefused) as caught:
                await server.start([])
    assert caught.value.reason == "PORT_IN_USE"
