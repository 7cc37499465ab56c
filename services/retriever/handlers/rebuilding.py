"""What the retriever does when its rows and vectors are built again from the log."""

from pathlib import Path

from sqlalchemy.orm import Session

from services.retriever.adapters import queries
from services.retriever.adapters.store import DocumentRow
from services.retriever.adapters.vector_store import VectorStore
from services.retriever.adapters.versions import applied_version
from services.retriever.handlers.searching import describe_index
from services.retriever.handlers.upkeep import Upkeep
from services.retriever.settings import RetrieverSettings
from tidemill.api.events.v1 import DocumentIndexed
from tidemill.bus import Bus
from tidemill.bus.tables import OutboxRow
from tidemill.clock import Clock
from tidemill.db import Database
from tidemill.rebuild.digests import rows_hash, table_hash


async def digests(database: Database) -> dict[str, str]:
    """The manifest of each tenant's index, its texts and vectors, and what is withdrawn."""
    tenants, found = await database.read(_digests)
    for tenant in tenants:
        found[f"manifest/{tenant}"] = (await describe_index(database, tenant)).manifest_hash
    return found


def _digests(session: Session) -> tuple[list[str], dict[str, str]]:
    tenants = queries.tenants(session)
    found = {"documents": table_hash(session, DocumentRow)}
    for tenant in tenants:
        found[f"vectors/{tenant}"] = rows_hash(queries.vectors_in_force(session, tenant))
    return tenants, found


def wanted(session: Session, row: OutboxRow) -> bool:
    """News of a version that a later one has replaced is of no use to anyone."""
    if not row.topic.startswith("documents.indexed"):
        return True
    event = DocumentIndexed.FromString(row.value or b"")
    applied = applied_version(session, event.tenant_id, event.document_id)
    return applied is None or applied <= event.version


async def settle(bus: Bus, clock: Clock, settings: RetrieverSettings, address: Path | None) -> None:
    """Forget what no search needs, then write the vectors. address: of the new vector file; on a
    Milvus server the service repairs the collections itself when it starts."""
    if address is None:
        return
    async with VectorStore(str(address), settings.milvus_seconds) as store:
        upkeep = upkeep_of(bus, store, clock, settings)
        await forget_ended(bus, upkeep)
        await upkeep.reconcile()


async def forget_ended(bus: Bus, upkeep: Upkeep) -> None:
    """Their rows alone: no vector of theirs was written."""
    for index in await bus.database.read(queries.list_indexes):
        while keys := await upkeep.ended(index):
            await upkeep.forget_versions(index, keys)


def upkeep_of(bus: Bus, store: VectorStore, clock: Clock, settings: RetrieverSettings) -> Upkeep:
    return Upkeep(
        bus,
        store,
        clock,
        grace_seconds=settings.grace_seconds,
        staged_grace_seconds=settings.staged_grace_seconds,
    )
