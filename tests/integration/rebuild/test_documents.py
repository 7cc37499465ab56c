"""Ingest's and the embedder's rows are lost: versions keep their numbers, and only what was lost
on its way to the log is worked on again."""

from sqlalchemy import select

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
from tidemill.bus.unit import published_id
from tidemill.rpc import call
from tidemill.topics import DOCUMENTS_SUBMITTED as SUBMITTED

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
    from tidemill.bus.tables import InboxRow
    from tidemill.rebuild.stores import store_of

    store = store_of("embedder", mesh.settings)
    async with store.open() as database, database.session() as session:
        return list(await session.scalars(select(InboxRow.event_id)))
