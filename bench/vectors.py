"""Searches of one collection: the retriever's vector store on a file, milvus-lite itself, hnswlib.

    python bench/vectors.py [--rows 1000 10000 50000] [--queries 200]

Prints JSON, a row for each size and engine: milliseconds of processor time a search (alone, and of
32 at a time), their ratio to hnswlib's, and recall@10 against looking at every vector. hnswlib is
the limit; it has no wheel, so `pip install hnswlib` needs a compiler. Without it its rows are left
out and ratios are to the fastest.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.retriever.adapters.vector_store import Entity, VectorStore

DIMENSIONS = 384
TOPICS = 200
LIMIT = 10
BATCH = 32
CHUNKS_A_VERSION = 5
Matrix = NDArray[np.float32]
Search = Callable[[Matrix], list[list[int]]]


def data(rows: int, queries: int) -> tuple[Matrix, Matrix]:
    """Points around topics, as sentence vectors lie, and queries near some of them."""
    random = np.random.default_rng(1)
    topics = random.standard_normal((TOPICS, DIMENSIONS))
    points = topics[random.integers(0, TOPICS, rows)]
    points = points + 0.7 * random.standard_normal((rows, DIMENSIONS))
    near = points[random.integers(0, rows, queries)]
    near = near + 0.5 * random.standard_normal((queries, DIMENSIONS))
    return unit(points), unit(near)


def unit(vectors: NDArray[np.float64]) -> Matrix:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def measure(search: Search, queries: Matrix, truth: list[set[int]]) -> dict[str, float]:
    search(queries[:1])
    started = time.process_time()
    found = [search(query[None])[0] for query in queries]
    alone = time.process_time() - started
    started = time.process_time()
    for start in range(0, len(queries), BATCH):
        search(queries[start : start + BATCH])
    together = time.process_time() - started
    hits = sum(len(set(f) & t) for f, t in zip(found, truth, strict=True))
    return {
        "alone_ms": round(1e3 * alone / len(queries), 4),
        "batched_ms": round(1e3 * together / len(queries), 4),
        "recall": round(hits / (LIMIT * len(queries)), 4),
    }


def engines(points: Matrix, folder: Path) -> Iterator[tuple[str, Search, Callable[[], None]]]:
    loop = asyncio.new_event_loop()
    store = VectorStore(str(folder / "milvus.db"), timeout=600.0)
    entities = [Entity(str(n), n // CHUNKS_A_VERSION, point) for n, point in enumerate(points)]
    loop.run_until_complete(store.create_collection("bench", DIMENSIONS))
    loop.run_until_complete(store.upsert("bench", entities))

    def ours(queries: Matrix) -> list[list[int]]:
        hits = loop.run_until_complete(store.search("bench", list(queries), LIMIT))
        return [[int(hit.chunk_id) for hit in line] for line in hits]

    def close() -> None:
        loop.run_until_complete(store.close())
        loop.close()

    yield "tidemill", ours, lambda: None
    yield "milvus-lite", of_milvus(store), close
    hnsw = of_hnswlib(points)
    if hnsw is not None:
        yield "hnswlib", hnsw, lambda: None


def of_milvus(store: VectorStore) -> Search:
    """The same file, asked by its own client."""
    client: Any = store._client

    def search(queries: Matrix) -> list[list[int]]:
        lines = client.search(
            "bench", data=queries.tolist(), anns_field="vector", limit=LIMIT, timeout=600
        )
        return [[int(hit["chunk_id"]) for hit in line] for line in lines]

    return search


def of_hnswlib(points: Matrix) -> Search | None:
    try:
        import hnswlib
    except ImportError:
        return None
    index: Any = hnswlib.Index(space="cosine", dim=DIMENSIONS)
    index.init_index(max_elements=len(points), ef_construction=100, M=16)
    index.set_num_threads(1)
    index.add_items(points)
    index.set_ef(96)
    return lambda queries: index.knn_query(queries, k=LIMIT)[0].tolist()


def rows_of(size: int, queries: int) -> list[dict[str, object]]:
    points, asked = data(size, queries)
    truth = [set(np.argsort(-(points @ query))[:LIMIT].tolist()) for query in asked]
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for name, search, close in engines(points, Path(folder)):
            rows.append({"rows": size, "engine": name, **measure(search, asked, truth)})
            close()
    limit = next((r for r in rows if r["engine"] == "hnswlib"), rows[0])
    for row in rows:
        for kind in ("alone", "batched"):
            row[f"{kind}_ratio"] = round(row[f"{kind}_ms"] / limit[f"{kind}_ms"], 2)  # type: ignore[operator]
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    table = [row for size in options.rows for row in rows_of(size, options.queries)]
    json.dump(table, sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
