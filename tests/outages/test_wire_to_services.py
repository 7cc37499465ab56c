"""The wire between callers, services, model server and vector store: calls end by their deadline,
and the next one after the wire is well is answered."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from services.ingest.app import lifespan as ingest
from services.retriever.adapters.vector_store import VectorStore
from tests.integration.documents.outside import Outside, outside_of
from tests.outages.conftest import Wire
from tests.outages.proxy import Proxy, Way, proxied
from tests.waiting import eventually as until
from tidemill import topics
from tidemill.api.ingest.v1 import SubmitDocumentRequest
from tidemill.faults import Fault, Reason
from tidemill.modelserver.client import ModelServer
from tidemill.modelserver.errors import ModelServerError, ModelStalled
from tidemill.rpc import call

DEADLINE_SECONDS = 1.5
MARGIN_SECONDS = 0.5
HEALED_SECONDS = 3.0


@pytest.fixture
async def caller(wire: Wire, run_service: Any, mint: Any) -> AsyncIterator[tuple[Outside, Proxy]]:
    """Someone who reaches ingest through a proxy."""
    plain = wire.outside.settings
    port = int(plain.address_of("ingest").rpartition(":")[2])
    async with run_service("ingest", plain, ingest), proxied(("127.0.0.1", port)) as proxy:
        through = plain.model_copy(update={"service_addresses": f"ingest={proxy.address}"})
        async with outside_of(through, mint) as outside:
            yield outside, proxy


async def submit(outside: Outside, name: str) -> str:
    request = SubmitDocumentRequest(
        document_id=name, media_type="text/plain", content=b"Some text.", request_id=name
    )
    stub, token = outside.ingest(), outside.token
    answer = await call(stub.SubmitDocument, request, token=token, timeout=DEADLINE_SECONDS)
    return str(answer.event_id)


def frozen(proxy: Proxy) -> None:
    proxy.freeze()


def answers_frozen(proxy: Proxy) -> None:
    proxy.freeze([Way.DOWN])


def refused(proxy: Proxy) -> None:
    proxy.refuse()


@pytest.mark.parametrize("fault", [frozen, answers_frozen, refused])
async def test_a_call_ends_by_its_deadline_and_is_made_again_without_a_second_effect(
    caller: tuple[Outside, Proxy], fault: Callable[[Proxy], None]
) -> None:
    outside, proxy = caller
    await submit(outside, "first")
    fault(proxy)
    began = time.monotonic()
    with pytest.raises(Fault) as caught:
        await submit(outside, "second")
    assert time.monotonic() - began < DEADLINE_SECONDS + MARGIN_SECONDS
    assert caught.value.retryable
    proxy.heal()
    event_id = await answered(lambda: submit(outside, "second"))
    assert event_id == await submit(outside, "second")

    async def logged() -> bool:
        return len(await outside.read(topics.DOCUMENTS_SUBMITTED.name)) >= 2

    await until(logged, 20)
    assert len(await outside.read(topics.DOCUMENTS_SUBMITTED.name)) == 2


@pytest.mark.parametrize("verb", ["cut", "reset"])
async def test_calls_under_cuts_end_with_a_status_and_the_next_is_answered(
    caller: tuple[Outside, Proxy], verb: str
) -> None:
    outside, proxy = caller
    for number in range(10):
        sending = asyncio.create_task(answered(lambda n=number: submit(outside, f"d{n}")))
        await asyncio.sleep(0.01)
        getattr(proxy, verb)()
        await sending


async def answered(ask: Callable[[], Awaitable[str]]) -> str:
    """The answer of a caller who tries again after retryable faults, within the bound."""
    async with asyncio.timeout(HEALED_SECONDS):
        while True:
            try:
                return await ask()
            except Fault as fault:
                if not fault.retryable:
                    raise
                await asyncio.sleep(0.05)


@pytest.mark.timeout(60)
async def test_a_connection_to_a_service_that_is_gone_without_a_word_is_given_up(
    caller: tuple[Outside, Proxy],
) -> None:
    """By the pings of its calls."""
    outside, proxy = caller
    await submit(outside, "first")
    proxy.half_open()
    proxy.heal()
    began = time.monotonic()

    async def again() -> bool:
        try:
            return bool(await submit(outside, "second"))
        except Fault as fault:
            if not fault.retryable:
                raise
            return False

    await until(again, 30)
    assert time.monotonic() - began < 12


async def test_a_model_server_that_never_answers_ends_calls_in_time() -> None:
    async with proxied(("127.0.0.1", 1)) as proxy:
        proxy.half_open()
        async with ModelServer(proxy.address) as server:
            for wait in (server.live(timeout=1.0), server.ready("llm", timeout=1.0)):
                began = time.monotonic()
                assert not await wait
                assert time.monotonic() - began < 1.0 + MARGIN_SECONDS
            with pytest.raises(ModelStalled):
                await server._one_token(None, 1.0)

            async def tried_anew() -> bool:
                await server.live(timeout=0.5)
                return proxy.accepted > 1

            await until(tried_anew, 15)


async def test_a_model_server_that_refuses_is_told_at_once() -> None:
    async with ModelServer("127.0.0.1:1") as server:
        began = time.monotonic()
        with pytest.raises(ModelServerError):
            await server.embed(["text"], timeout=5.0)
        assert time.monotonic() - began < 2.0


async def test_a_vector_store_that_never_answers_is_told_in_time_and_left() -> None:
    async with proxied(("127.0.0.1", 1)) as proxy:
        proxy.half_open()
        began = time.monotonic()
        async with VectorStore(f"http://{proxy.address}", 1.0) as store:
            with pytest.raises(Fault) as caught:
                await store.contents("c")
            assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
            with pytest.raises(Fault):
                await store.create_collection("c", 8)
        assert time.monotonic() - began < 8.0


async def test_a_frozen_vector_file_is_told_in_time_and_works_again(tmp_path: Path) -> None:
    """milvus-lite runs in one thread of the service; here that thread hangs."""
    hang = threading.Event()
    async with VectorStore(str(tmp_path / "milvus.db"), 5.0) as store:
        await store.create_collection("c", 8)
        store._timeout = 0.5
        store._threads.submit(hang.wait, 30)
        began = time.monotonic()
        with pytest.raises(Fault) as caught:
            await store.create_collection("d", 8)
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        assert time.monotonic() - began < 2.0
        hang.set()
        store._timeout = 5.0
        assert await store.contents("c") == {}


async def test_a_vector_file_that_hangs_does_not_keep_its_service_from_stopping(
    tmp_path: Path,
) -> None:
    hang = threading.Event()
    store = VectorStore(str(tmp_path / "milvus.db"), 5.0)
    await store.create_collection("c", 8)
    store._threads.submit(hang.wait, 30)
    began = time.monotonic()
    await store.close()
    assert time.monotonic() - began < 4.0
    hang.set()
