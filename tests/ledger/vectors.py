"""What milvus-lite holds, read from a copy: one process at a time may open its folder."""

import asyncio
import logging
import shutil
import tempfile
from pathlib import Path

from pymilvus import MilvusClient

Vectors = dict[str, dict[str, int]]
"""Collection to chunk id to version key."""

PAGE = 5_000
SECONDS = 60.0


async def read_vectors(home: Path) -> Vectors:
    """Nothing may write to the vector store meanwhile."""
    source = home / "retriever" / "milvus.db"
    if not source.exists():
        return {}
    with tempfile.TemporaryDirectory(prefix="tidemill-ledger-") as scratch:
        copy = Path(scratch) / "milvus.db"
        return await asyncio.to_thread(_copy_and_read, source, copy)


def _copy_and_read(source: Path, copy: Path) -> Vectors:
    if source.is_dir():
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("LOCK", "*.lock"))
    else:
        shutil.copy(source, copy)
    for name in ("pymilvus", "milvus_lite", "grpc._server"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    client = MilvusClient(uri=str(copy), timeout=SECONDS)
    try:
        return {name: _contents(client, name) for name in client.list_collections()}
    finally:
        client.close()
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(str(copy))


def _contents(client: MilvusClient, name: str) -> dict[str, int]:
    client.load_collection(name, timeout=SECONDS)
    pages = client.query_iterator(
        name,
        batch_size=PAGE,
        filter="",
        output_fields=["chunk_id", "version_key"],
        timeout=SECONDS,
        consistency_level="Strong",
    )
    found: dict[str, int] = {}
    try:
        while page := pages.next():
            found |= {row["chunk_id"]: row["version_key"] for row in page}
    finally:
        pages.close()
    return found
