"""Ingest's and the embedder's rows are lost: versions keep their numbers, and only what was lost
on its way to the log is worked on again."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.ingest.adapters.store import DocumentRow, VersionRow
from tests.integration.documents.outside import outside_of
from tests.integration.rebuild.conftest import TENANT, Mesh
from tests.integration.rebuilding import ends, lose, lost_and_rebuilt, rebuild
from tests.unit.retriever.world import embedded
from tidemill import topics
from tidemill.api.events.v1 import DocumentChunked, DocumentIndexed, DocumentWithdrawn
from tidemill.api.ingest.v1 import (
    DOCUMENT_STATE_INDEXED,
    DOCUMENT_STATE_WITHDRAWN,
    SubmitDocumentRequest,
)
from tidemill.bus.admin import administering
from tidemill.bus.tables import InboxRow
from tidemill.bus.unit import published_id
from tidemill.rebuild.log import LogCut
from tidemill.rebuild.stores import store_of
from tidemill.rpc import call
from tidemill.settings import MeshSettings
from tidemill.topics import DOCUMENTS_SUBMITTED as SUBMITTED
from tidemill.topics import Topic

MARKDOWN = "text/markdown"


async def test_versions_come_back_with_their_numbers_and_no_document_is_read_again(
    mesh: Mesh,
) -> None:
    async with outside_of(mesh.settings, mesh.mint) as outside:
        request = SubmitDocumentRequest(
            document_id="pay", media_type=MARKDOWN, content=b"The 25th.", request_id="once"
        )
        async with mesh.service("ingest"):
            for text in (b"27 days.", b"28 days.", b"28 days.", b" "):
                await outside.submit(SUBMITTED, "leave", MARKDOWN, text)
            await outside.becomes("leave", version=2, rejection_reason="DOCUMENT_EMPTY")
            await outside.submit(SUBMITTED, "travel", MARKDOWN, b"Trains.")
            await outside.becomes("travel", version=1)
            withdrawn = DocumentWithdrawn(document_id="travel")
            await outside.publish(topics.DOCUMENTS_WITHDRAWN, "travel", withdrawn)
            await outside.becomes("travel", version=2, state=DOCUMENT_STATE_WITHDRAWN)
            indexed = DocumentIndexed(tenant_id=TENANT, document_id="leave", version=2)
            await outside.publish(topics.DOCUMENTS_INDEXED, "leave", indexed)
            leave = await outside.becomes("leave", state=DOCUMENT_STATE_INDEXED)
            said = await call(
                outside.ingest().SubmitDocument, request, token=outside.token, timeout=10
            )
            pay = await outside.becomes("pay", version=1)

        await lost_and_rebuilt(mesh.settings, "ingest")

        length = await ends(mesh.settings)
        async with mesh.service("ingest"):
            for before in (leave, pay):
                after = await outside.document(before.document_id)
                assert after is not None
                after.update_time.CopyFrom(before.update_time)
                assert after == before
            again = await call(
                outside.ingest().SubmitDocument, request, token=outside.token, timeout=10
            )
            assert again == said
        assert await ends(mesh.settings) == length


async def test_versions_come_back_when_the_submissions_are_no_longer_on_the_log(mesh: Mesh) -> None:
    """What outsiders asked for lies there unmasked, and only for days."""
    async with outside_of(mesh.settings, mesh.mint) as outside:
        async with mesh.service("ingest"):
            for text in (b"27 days.", b"28 days.", b" "):
                await outside.submit(SUBMITTED, "leave", MARKDOWN, text)
            await outside.becomes("leave", version=2, rejection_reason="DOCUMENT_EMPTY")
            await outside.submit(SUBMITTED, "travel", MARKDOWN, b"Trains.")
            await outside.becomes("travel", version=1)
            withdrawn = DocumentWithdrawn(document_id="travel")
            await outside.publish(topics.DOCUMENTS_WITHDRAWN, "travel", withdrawn)
            before = [
                await outside.becomes("leave", version=2),
                await outside.becomes("travel", version=2, state=DOCUMENT_STATE_WITHDRAWN),
            ]
        rows = await versions_of(mesh)
        for topic in (SUBMITTED, topics.DOCUMENTS_WITHDRAWN):
            await emptied(mesh.settings, topic)

        await lost_and_rebuilt(mesh.settings, "ingest")

        assert await versions_of(mesh) == rows
        async with mesh.service("ingest"):
            for document in before:
                after = await outside.document(document.document_id)
                assert after is not None
                after.update_time.CopyFrom(document.update_time)
                assert after == document
            await outside.submit(SUBMITTED, "travel", MARKDOWN, b"Trains.")
            await outside.becomes("travel", version=3)


async def test_originals_of_live_documents_are_put_where_they_are_missing(mesh: Mesh) -> None:
    """As after an upgrade from a release that left them on the log alone."""
    folder = Path(mesh.settings.artifacts_url)
    async with outside_of(mesh.settings, mesh.mint) as outside, mesh.service("ingest"):
        for text in (b"27 days.", b"28 days."):
            await outside.submit(SUBMITTED, "leave", MARKDOWN, text)
        await outside.becomes("leave", version=2)
    shutil.rmtree(folder)
    await rebuild(mesh.settings, "ingest")
    assert contents(folder) == [b"28 days."]


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("content")]


async def test_facts_without_their_beginning_make_no_store(mesh: Mesh) -> None:
    async with outside_of(mesh.settings, mesh.mint) as outside:
        async with mesh.service("ingest"):
            await outside.submit(SUBMITTED, "leave", MARKDOWN, b"27 days.")
            await mesh.grown(topics.DOCUMENTS_CHUNKED, 1)
        await emptied(mesh.settings, topics.DOCUMENTS_CHUNKED)
        with pytest.raises(LogCut):
            await rebuild(mesh.settings, "ingest")


async def versions_of(mesh: Mesh) -> list[Any]:
    """Documents with their times, and which event made which version."""
    async with store_of("ingest", mesh.settings).open() as database:
        return await database.read(rows_of)


def rows_of(session: Session) -> list[Any]:
    documents = select(
        DocumentRow.document_id,
        DocumentRow.submitted_time,
        DocumentRow.withdrawn_time,
        DocumentRow.rejected_time,
        DocumentRow.media_type,
        DocumentRow.title,
    ).order_by(DocumentRow.document_id)
    made = select(VersionRow.document_id, VersionRow.version, VersionRow.event_id)
    by_version = made.order_by(VersionRow.document_id, VersionRow.version)
    return [tuple(row) for query in (documents, by_version) for row in session.execute(query)]


async def emptied(settings: MeshSettings, topic: Topic[Any]) -> None:
    """As by the topic's retention."""
    places = [TopicPartition(topic.name, index) for index in range(topic.partitions)]
    async with administering(settings.kafka_address) as admin:
        await admin.delete_records({place: RecordsToDelete(-1) for place in places})


async def test_what_was_lost_on_its_way_to_the_log_is_done_again(mesh: Mesh) -> None:
    """The outbox is lost with the rows, and the group's offset is past the submission."""
    async with outside_of(mesh.settings, mesh.mint) as outside:
        async with mesh.service("ingest") as runtime:
            await outside.submit(SUBMITTED, "leave", MARKDOWN, b"27 days.")
            await mesh.grown(topics.DOCUMENTS_CHUNKED, 1)
            runtime.bus.relay.close()
            await runtime.bus.relay.empty.wait()
            await outside.submit(SUBMITTED, "leave", MARKDOWN, b"28 days.")
            await outside.becomes("leave", version=2)
        assert (await ends(mesh.settings))[topics.DOCUMENTS_CHUNKED.name] == 1
        lose(mesh.settings, "ingest")

        rebuilt = await rebuild(mesh.settings, "ingest")

        assert rebuilt.left == 1
        async with mesh.service("ingest"):
            await outside.becomes("leave", version=2)
            await mesh.grown(topics.DOCUMENTS_CHUNKED, 2)
        last = await rebuild(mesh.settings, "ingest")
        assert (last.left, last.same) == (0, True)


async def test_the_embedder_knows_what_it_has_embedded_without_a_model(mesh: Mesh) -> None:
    key = f"{TENANT}/leave"
    consumer, told = "embedder/documents.chunked.v1", topics.CHUNKS_EMBEDDED
    chunked = DocumentChunked(tenant_id=TENANT, document_id="leave", version=1)
    await mesh.send(topics.DOCUMENTS_CHUNKED, "leave", chunked, event_id="done")
    await mesh.send(topics.DOCUMENTS_CHUNKED, "leave", chunked, event_id="open")
    event_id = published_id(consumer, "done", told.name, key)
    await mesh.send(told, "leave", embedded(TENANT, "leave", 1, ["x"]), event_id=event_id)
    await rebuild(mesh.settings, "embedder")
    assert await done(mesh) == ["done"]


async def done(mesh: Mesh) -> list[str]:
    store = store_of("embedder", mesh.settings)
    async with store.open() as database, database.session() as session:
        return list(await session.scalars(select(InboxRow.event_id)))
