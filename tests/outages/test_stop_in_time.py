"""SIGTERM under load: every service says so at once, ends in time and by itself, loses nothing."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import structlog

from tests.conftest import BrokerProcess
from tests.integration.core.conftest import Outside, producing
from tests.outages.proxy import Proxy, proxied
from tests.outages.services_in_processes import ENDED, ServiceProcesses
from tidemill import topics
from tidemill.api.common.v1 import Chunk, EmbeddingModel
from tidemill.api.events.v1 import (
    AnswerGenerated,
    ChunksEmbedded,
    DocumentSubmitted,
    EmbeddedChunk,
    FeedbackRecorded,
)
from tidemill.api.inference.v1 import GenerateRequest, InferenceServiceStub
from tidemill.settings import SERVICES

log = structlog.get_logger()

STOP_SECONDS = 10.0
UNREADY_SECONDS = 1.0
ORDER = sorted(SERVICES, key=lambda name: name != "inference")
DOCUMENTS = 60
# With a status: the stop's, or that of the model server which did not answer in time.
STREAM_ENDS = ENDED | {grpc.StatusCode.DEADLINE_EXCEEDED}
MODEL = EmbeddingModel(name="small", version="1", dimensions=8)


@pytest.fixture
async def silent() -> AsyncIterator[Proxy]:
    """A model server that takes connections and never answers."""
    async with proxied(("127.0.0.1", 1)) as proxy:
        proxy.half_open()
        yield proxy


def embedded(number: int) -> ChunksEmbedded:
    chunk = Chunk(chunk_id=f"c{number}", document_id=f"e{number}", version=1, text="text")
    vector = np.full(8, 8**-0.5, "<f4").tobytes()
    return ChunksEmbedded(
        tenant_id="acme",
        document_id=f"e{number}",
        version=1,
        embedding_model=MODEL,
        chunks=[EmbeddedChunk(chunk=chunk, vector=vector)],
    )


async def load(outside: Outside) -> None:
    """Work for all: documents, vectors, answers, feedback."""
    for number in range(DOCUMENTS):
        document = DocumentSubmitted(
            document_id=f"d{number}", media_type="text/plain", content=b"Some text. " * 50
        )
        await outside.publish(topics.DOCUMENTS_SUBMITTED, f"d{number}", document)
        await outside.publish(topics.CHUNKS_EMBEDDED, f"e{number}", embedded(number))
        answer = AnswerGenerated(answer_id=f"a{number}", tenant_id="acme", question="Why?")
        await outside.publish(topics.ANSWERS_GENERATED, f"a{number}", answer)
        feedback = FeedbackRecorded(feedback_id=f"f{number}", answer_id=f"a{number}")
        feedback.thumb.up = True
        await outside.publish(topics.FEEDBACK_RECORDED, f"a{number}", feedback)


async def ask(outside: Outside) -> grpc.StatusCode:
    """How a stream ends that was running when its server was told to stop."""
    token = outside.mint(outside.settings, "acme", "answers:write")
    metadata = (("authorization", f"Bearer {token}"),)
    address = outside.settings.address_of("inference")
    async with grpc.aio.insecure_channel(address) as channel:
        stream = InferenceServiceStub(channel).Generate(
            GenerateRequest(question="Why?"), metadata=metadata, timeout=60.0
        )
        try:
            async for _ in stream:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def rows(home: Path, service: str, query: str) -> int:
    with closing(sqlite3.connect(f"file:{home / service / 'rows.db'}?mode=ro", uri=True)) as file:
        return int(file.execute(query).fetchone()[0])


@pytest.mark.timeout(240)
async def test_every_service_stops_in_time_under_load_and_loses_nothing(
    tmp_path: Path,
    mesh_settings: Any,
    mint: Any,
    silent: Proxy,
    eventually: Any,
) -> None:
    """The services start before their broker, and their model server never answers."""
    settings = mesh_settings(tmp_path / "home", triton=silent.address)
    settings = settings.model_copy(update={"kafka": f"127.0.0.1:{settings.port_base}"})
    settings.home.mkdir()
    mint(settings, "acme", "documents:write")
    broker = BrokerProcess(tmp_path / "broker", port=settings.port_base)
    services = ServiceProcesses(settings)
    try:
        services.start()
        await asyncio.to_thread(broker.start)
        await services.serving()
        async with producing(settings.kafka) as producer:
            outside = Outside(settings.kafka, settings, mint, producer)
            asked = [asyncio.create_task(ask(outside)) for _ in range(5)]
            loading = asyncio.create_task(load(outside))
            await asyncio.sleep(1.0)
            # One after the other, inference with its streams first: together they would measure
            # how seven processes share two cores.
            stops = {name: await services.stop(name) for name in ORDER}
            assert {name: s.code for name, s in stops.items()} == dict.fromkeys(SERVICES, 0)
            assert max(s.ended for s in stops.values()) < STOP_SECONDS, stops
            assert max(s.unready for s in stops.values()) < UNREADY_SECONDS, stops
            log.info("stopped", **{name: stop.ended for name, stop in stops.items()})
            assert set(await asyncio.wait_for(asyncio.gather(*asked), 5)) <= STREAM_ENDS
            await loading
        services.start("ingest", "retriever")
        await nothing_lost(settings.home, eventually)
    finally:
        services.kill()
        broker.kill()


async def nothing_lost(home: Path, eventually: Any) -> None:
    async def all_there() -> bool:
        taken = rows(home, "ingest", "SELECT count(*) FROM documents WHERE document_id LIKE 'd%'")
        indexed = rows(home, "retriever", "SELECT count(*) FROM versions")
        return (taken, indexed) == (DOCUMENTS, DOCUMENTS)

    await eventually(all_there, 60)
