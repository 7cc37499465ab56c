"""More calls than a service can do: the rest is refused with a hint, and the work goes on."""

import asyncio
import sqlite3
import time
from contextlib import closing
from typing import Any

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2

from services.ingest.app import lifespan as ingest
from tests.outages.conftest import Wire
from tidemill.api.inference.v1 import (
    GenerateRequest,
    GenerateResponse,
    GenerationCompleted,
    InferenceServiceServicer,
)
from tidemill.api.inference.v1.inference_service_pb2_grpc import (
    add_InferenceServiceServicer_to_server,
)
from tidemill.api.ingest.v1 import IngestServiceStub, SubmitDocumentRequest
from tidemill.client import ATTEMPTS, Client, wait_for_overload
from tidemill.clock import SystemClock
from tidemill.faults import Fault, Reason
from tidemill.rpc import Channels, call, open_server
from tidemill.rpc.errors import details_of, from_error, to_status
from tidemill.security.keys import load_or_create_key
from tidemill.security.tokens import Identity
from tidemill.telemetry import open_telemetry

log = structlog.get_logger()

PEAK_CALLERS, CALLERS = 64, 384
SECONDS = 4.0
HELD_SECONDS, FREE_SECONDS = 0.5, 0.25


async def hold_the_disk(path: str) -> None:
    """What makes calls wait inside the service: something else writes its file again and again.

    On a free disk calls share commits, and the loop that takes them in is what they wait for.
    """
    with closing(
        sqlite3.connect(path, isolation_level=None, timeout=30.0, check_same_thread=False)
    ) as connection:
        while True:
            await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
            await asyncio.sleep(HELD_SECONDS)
            connection.execute("ROLLBACK")
            await asyncio.sleep(FREE_SECONDS)


@pytest.mark.timeout(60)
async def test_goodput_stands_when_many_times_too_many_call(
    wire: Wire, run_service: Any, mint: Any
) -> None:
    settings = wire.outside.settings
    async with run_service("ingest", settings, ingest) as runtime:
        channels = Channels(settings)
        stub = IngestServiceStub(channels.to("ingest"))
        token = mint(settings, "acme", "documents:write")
        done, refused = [0], [0.0]

        async def caller(number: int, ends: float) -> None:
            while time.monotonic() < ends:
                request = SubmitDocumentRequest(
                    document_id=f"d{number}", media_type="text/plain", content=b"Some text."
                )
                try:
                    await call(stub.SubmitDocument, request, token=token, timeout=20.0)
                    done[0] += time.monotonic() < ends
                except Fault as fault:
                    wait = wait_for_overload(fault)
                    if wait is None or not 0.5 <= (fault.retry_after or 0) <= 10:
                        raise
                    refused[0] += 1
                    await asyncio.sleep(wait)

        async def goodput(callers: int) -> float:
            done[0], ends = 0, time.monotonic() + SECONDS
            await asyncio.gather(*(caller(n, ends) for n in range(callers)))
            return done[0] / SECONDS

        holding = asyncio.create_task(hold_the_disk(str(runtime.database.engine.url.database)))
        peak = await goodput(PEAK_CALLERS)
        assert refused[0] == 0
        crowded = await goodput(CALLERS)
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        await channels.close()
    assert refused[0] > 0
    log.info("goodput", peak=peak, crowded=crowded, refused=refused[0])
    assert crowded > 0.5 * peak, f"{crowded:.0f} of {peak:.0f} a second"


def test_an_overloaded_server_hints_when_to_come_back() -> None:
    for fault, seconds in ((Fault(Reason.OVERLOADED), 1.0), (late(250), 0.25)):
        status = to_status(fault)
        error = grpc.aio.AioRpcError(
            status.code, grpc.aio.Metadata(), grpc.aio.Metadata(*status.trailing_metadata)
        )
        info = error_details_pb2.RetryInfo()
        assert details_of(error, info) == [info]
        assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert from_error(error).retry_after == seconds
    assert to_status(Fault(Reason.REQUEST_TOO_LARGE)).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert wait_for_overload(Fault(Reason.REQUEST_TOO_LARGE)) is None


def late(milliseconds: int) -> Fault:
    return Fault(Reason.OVERLOADED, retry_after_ms=str(milliseconds))


class Busy(InferenceServiceServicer):
    """Refuses the first questions, then answers."""

    def __init__(self, refusals: int) -> None:
        self.left, self.asked = refusals, list[float]()

    async def Generate(self, request: GenerateRequest, context: Any) -> Any:
        self.asked.append(time.monotonic())
        self.left -= 1
        if self.left >= 0:
            raise late(200)
        yield GenerateResponse(completed=GenerationCompleted(text="yes"))


@pytest.mark.parametrize("refusals", [2, ATTEMPTS])
async def test_the_client_comes_back_after_the_hint_a_few_times(
    tmp_path: Any, mesh_settings: Any, refusals: int
) -> None:
    settings, busy = mesh_settings(tmp_path), Busy(refusals)
    identity = Identity(load_or_create_key(tmp_path / "keys"), "test", SystemClock())
    with open_telemetry("test", tmp_path, metrics_port=None) as telemetry:
        port = settings.grpc_port("inference")
        opened = open_server(settings, port, identity.verifier, telemetry, SystemClock())
        async with opened as server:
            add_InferenceServiceServicer_to_server(busy, server.grpc)
            await server.start([])
            channels = Channels(settings)
            client = Client(
                "acme",
                lambda _: identity.mint("acme", ["answers:write"]),
                None,
                channels,  # type: ignore[arg-type]
            )
            if refusals < ATTEMPTS:
                assert (await client.ask("Why?")).completed.text == "yes"
            else:
                with pytest.raises(Fault) as caught:
                    await client.ask("Why?")
                assert caught.value.reason is Reason.OVERLOADED
            await channels.close()
    assert len(busy.asked) == ATTEMPTS
    pauses = [b - a for a, b in zip(busy.asked, busy.asked[1:], strict=False)]
    assert all(0.2 <= pause < 1.0 for pause in pauses), pauses
