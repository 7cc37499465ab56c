"""What is asked often reads what it needs by an index, on both databases."""

from datetime import UTC, datetime

from sqlalchemy import insert

from services.retriever.adapters import queries
from services.retriever.adapters import store as retriever
from tests.conformance.rows.plans import plan_of
from tests.tables import create_tables
from tidemill.db import Database

NOW = datetime(2026, 11, 22, tzinfo=UTC)
MANY = 3_000


async def test_the_version_of_a_document_is_found_by_the_document(database: Database) -> None:
    await create_tables(database, retriever.Base.metadata)
    rows = [
        {
            "tenant_id": "acme", "version_key": n, "document_id": f"d{n}", "version": 1,
            "title": "", "source_uri": "", "chunk_count": 1, "staged_time": NOW, "from_revision": n,
        }
        for n in range(MANY)
    ]  # fmt: skip
    async with database.transaction() as session:
        await session.execute(insert(retriever.VersionRow), rows)
    plan = await plan_of(database, lambda s: queries.version_in_force(s, "acme", "d7"))
    assert "versions_by_document" in plan
