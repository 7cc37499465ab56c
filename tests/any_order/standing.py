"""What the services know in the end, as plain values that can be compared."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.evaluator.adapters.tables import WaitingAdapterRow
from services.evaluator.adapters.traffic import read_arm
from services.inference.adapters.store import load_releases
from services.ingest.adapters.store import DocumentRow as IngestDocumentRow
from services.monitor.adapters import counts
from services.monitor.adapters.tables import SpendRow, ThumbRow, WatchRow
from services.monitor.handlers.sharing import THUMBS_DOWN_SHARE
from services.retriever.adapters.store import ChunkRow, IndexRow, VersionRow
from services.retriever.domain.vectors import decode
from services.trainer.adapters.store import FeedbackRow
from services.trainer.domain.dataset import Limits, snapshot
from services.trainer.handlers.datasets import harvest
from tests.any_order.history import RELEASES
from tests.any_order.houses import Street
from tests.unit.retriever.world import DIMENSIONS, vector_of

LIMITS = Limits(max_examples=500, max_user_share=0.5)


async def standing_of(street: Street, tenant_id: str) -> dict[str, Any]:
    return {
        "vectors": await vectors(street, tenant_id),
        "training": await training(street, tenant_id),
        "usage": await usage(street, tenant_id),
        "traffic": await traffic(street, tenant_id),
        "releases": await releases(street, tenant_id),
        "documents": await documents(street, tenant_id),
    }


async def vectors(street: Street, tenant_id: str) -> Any:
    """Chunks in force with the vector of the row, each found in the vector store."""
    in_force = VersionRow.from_revision.is_not(None) & VersionRow.to_revision.is_(None)
    joined = (ChunkRow.tenant_id == VersionRow.tenant_id) & (
        ChunkRow.version_key == VersionRow.version_key
    )
    query = (
        select(VersionRow.document_id, VersionRow.version, VersionRow.version_key, ChunkRow)
        .join(ChunkRow, joined)
        .where(VersionRow.tenant_id == tenant_id, in_force)
    )
    async with street.rows["retriever"].session() as session:
        index = await session.get(IndexRow, tenant_id)
        rows = (await session.execute(query)).all()
    found = set()
    for document, version, key, chunk in rows:
        assert index is not None
        hits = await nearest(street, index.collection, vector_of(chunk.text))
        assert (chunk.chunk_id, key) in hits, "a chunk in force is not in the vector store"
        found.add((document, version, chunk.chunk_id, chunk.text, chunk.vector))
    return found


async def nearest(street: Street, collection: str, vector: bytes) -> set[Any]:
    decoded = decode(vector, DIMENSIONS)
    assert decoded is not None
    (hits,) = await street.vectors.search(collection, [decoded], 3)
    return {(hit.chunk_id, hit.version_key) for hit in hits}


async def training(street: Street, tenant_id: str) -> Any:
    """The next data set with its hash, and what became of each piece of feedback."""

    def look(session: Session) -> Any:
        query = select(FeedbackRow).where(FeedbackRow.tenant_id == tenant_id)
        judged = {r.feedback_id: (r.state, r.reason) for r in session.scalars(query)}
        return harvest(session, tenant_id, LIMITS), judged

    found, judged = await street.rows["trainer"].read(look)
    taken = snapshot(found.lessons)
    return taken.content_hash, taken.preference_pairs, found.fresh, judged


async def usage(street: Street, tenant_id: str) -> Any:
    """Sums by release, latencies, spending by day, thumbs, and their share by release."""

    def look(session: Session) -> Any:
        rows, latencies = counts.read_usage(session, tenant_id)
        spent = session.scalars(select(SpendRow).where(SpendRow.tenant_id == tenant_id))
        thumbs = session.scalars(select(ThumbRow).where(ThumbRow.tenant_id == tenant_id))
        sums = {
            row.release_id: (
                row.answers,
                row.refusals,
                row.errors,
                row.input_tokens,
                row.output_tokens,
                row.cost_micros,
            )
            for row in rows
        }
        days = {row.day: row.cost_micros for row in spent}
        watches = session.scalars(
            select(WatchRow).where(
                WatchRow.tenant_id == tenant_id, WatchRow.metric == THUMBS_DOWN_SHARE
            )
        )
        shares = {row.release_id: (row.reference_n, row.reference_k) for row in watches}
        return sums, dict(latencies), days, {row.answer_id: row.up for row in thumbs}, shares

    return await street.rows["monitor"].read(look)


async def traffic(street: Street, tenant_id: str) -> Any:
    """Adapters that wait for their gate, and what live users saw of each arm of the canary."""

    def look(session: Session) -> Any:
        query = select(WaitingAdapterRow).where(WaitingAdapterRow.tenant_id == tenant_id)
        waiting = {row.adapter for row in session.scalars(query)}
        arms = {}
        for release in RELEASES:
            arm = read_arm(session, tenant_id, release)
            arms[release] = (sorted(arm.durations), arm.answers, arm.errors, arm.refusals)
            arms[release] += (arm.thumbs_up, arm.thumbs_down)
        return waiting, arms

    return await street.rows["evaluator"].read(look)


async def releases(street: Street, tenant_id: str) -> Any:
    """Every release with its newest state, the one in force and the canary."""
    found = await load_releases(street.rows["inference"], tenant_id)
    return {name: found.find(name) for name in RELEASES}, found.in_force(), found.canary()


async def documents(street: Street, tenant_id: str) -> Any:
    """The content in force of each document (empty when withdrawn), and the version that the index
    has. How many versions came before is left out: a content that a newer one overtook, or that
    was withdrawn before it came, never becomes a version."""
    async with street.rows["ingest"].session() as session:
        query = select(IngestDocumentRow).where(IngestDocumentRow.tenant_id == tenant_id)
        rows = (await session.scalars(query)).all()
    return {
        row.document_id: (row.content_hash, row.seen_version, row.indexed_version) for row in rows
    }
