"""A large index is described a page at a time, with the same hash on both databases."""

import asyncio
import random
import time
from datetime import UTC, datetime

from sqlalchemy import insert
from sqlalchemy.orm import Session

from services.retriever.adapters import queries
from services.retriever.adapters.store import Base, ChunkRow, IndexRow, VersionRow
from services.retriever.domain.manifest import Row, manifest_hash
from services.retriever.handlers.searching import describe_index
from tests.tables import create_tables
from tidemill.db import Database

NAMES = ("Z", "a", "ab", "a b", "A-1", "a_1", "ä", "é", "zz", "鯨", "\uffff", "🐋")
"""Databases order these by language unless they are told not to."""
CHUNKS = 300


def rows() -> list[tuple[str, int, str]]:
    """(document, version, chunk id), shuffled."""
    made = [
        (name, 10 + number % 2, f"{name}-{number % 7}-{number:03}")
        for name in NAMES
        for number in range(CHUNKS)
    ]
    random.Random(1).shuffle(made)
    return made


async def fill(database: Database, manifest: list[tuple[str, int, str]]) -> None:
    await create_tables(database, Base.metadata)
    now, keys = datetime(2026, 11, 22, tzinfo=UTC), dict[tuple[str, int], int]()
    for document, version, _ in manifest:
        keys.setdefault((document, version), len(keys) + 1)
    shared = {"tenant_id": "acme"}
    versions = [
        shared | {
            "version_key": key, "document_id": document, "version": version, "title": "",
            "source_uri": "", "chunk_count": 1, "staged_time": now, "from_revision": 1,
        }
        for (document, version), key in keys.items()
    ]  # fmt: skip
    chunks = [
        shared | {
            "chunk_id": chunk, "version_key": keys[document, version], "ordinal": 0,
            "headings": [], "text": "", "vector": b"",
        }
        for document, version, chunk in manifest
    ]  # fmt: skip
    async with database.transaction() as session:
        await session.execute(insert(IndexRow).values(tenant_id="acme", revision=1))
        await session.execute(insert(VersionRow), versions)
        await session.execute(insert(ChunkRow), chunks)


async def test_pages_come_in_the_order_of_code_points_and_let_others_work_between(
    database: Database,
) -> None:
    manifest, turns = rows(), 0
    await fill(database, manifest)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    working = asyncio.create_task(others())
    turns_at = list[int]()

    def pages(session: Session) -> list[list[Row]]:
        found = []
        for page in queries.manifest_pages(session, "acme"):
            found.append(page)
            turns_at.append(turns)
            time.sleep(0.02)
        return found

    read = await database.read(pages)
    working.cancel()
    assert [row for page in read for row in page] == sorted(manifest)
    assert [len(page) for page in read] == [1_000, 1_000, 1_000, 600]
    assert turns_at == sorted(set(turns_at)), "others worked between any two pages"
    described = await describe_index(database, "acme")
    assert described.manifest_hash == manifest_hash(manifest)
    assert (described.documents, described.chunks) == (len(NAMES), len(manifest))


async def test_keys_of_chunks_and_versions_are_all_read(database: Database) -> None:
    manifest = rows()
    await fill(database, manifest)
    wanted = await database.read(lambda session: queries.chunk_keys(session, "acme"))
    known = await database.read(lambda session: queries.known_keys(session, "acme"))
    assert set(wanted) == {chunk for _, _, chunk in manifest}
    assert known == set(wanted.values()) == set(range(1, 25))
