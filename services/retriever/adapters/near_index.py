"""Nearest vectors of one collection in memory: exact while it is small, then by a graph.

It stands in front of milvus-lite, whose searches look at every row in Python. One process alone
writes such a file, so what went through this process is all there is. Not safe for several threads.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from services.retriever.domain.vectors import Vector

EXACT_ROWS = 4_000
"""Up to so many rows all are looked at: a millisecond or two, and never a wrong neighbour."""
GRAPH_STEP = 1_000
"""Rows that one call adds to the graph, about a quarter of a second at 384 dimensions."""
STEPS = 2
"""More than is written at a time, so that the graph catches up."""
LINKS = 16
BUILD_BREADTH = 100
SEARCH_BREADTH = 96
DEAD_SHARE = 0.5
"""Above it the living rows move together and the graph is begun anew."""


class NearIndex:
    """Rows are appended; one that is replaced or deleted stays behind, marked as dead."""

    def __init__(self, dimensions: int, exact_rows: int = EXACT_ROWS) -> None:
        self._dimensions = dimensions
        self._exact_rows = exact_rows
        self._clear(capacity=1_024)

    def __len__(self) -> int:
        return len(self._row_of)

    def upsert(self, chunk_id: str, version_key: int, vector: Vector) -> None:
        """A chunk that is there already takes the new key and vector."""
        before = self._row_of.pop(chunk_id, None)
        if before is not None:
            self._kill(before)
        row = self._rows
        if row == len(self._matrix):
            self._reserve(2 * row)
        self._matrix[row] = vector / np.linalg.norm(vector)
        self._alive[row] = True
        self._chunk_ids.append(chunk_id)
        self._keys.append(version_key)
        self._row_of[chunk_id] = row
        self._rows_of_key[version_key].add(row)
        self._rows += 1

    def delete_versions(self, keys: Iterable[int]) -> None:
        """All chunks of these versions."""
        for key in keys:
            for row in self._rows_of_key.pop(key, set()):
                del self._row_of[self._chunk_ids[row]]
                self._alive[row] = False

    def settle(self, steps: int = STEPS) -> None:
        """Bounded work that keeps searches fast; called after each change of up to 500 rows."""
        if self._rows > self._exact_rows and len(self) < DEAD_SHARE * self._rows:
            self._compact()
        while steps and self._rows > self._exact_rows and self._graph.ntotal < self._rows:
            done = self._graph.ntotal
            self._graph.add(self._matrix[done : min(self._rows, done + GRAPH_STEP)])
            steps -= 1

    def search(
        self, vectors: Sequence[Vector], limit: int, hidden: Iterable[int] = ()
    ) -> list[list[tuple[str, int, float]]]:
        """(chunk id, version key, cosine similarity), nearest first, for each vector."""
        allowed = self._alive[: self._rows].copy()
        for key in hidden:
            allowed[list(self._rows_of_key.get(key, ()))] = False
        limit = min(limit, int(np.count_nonzero(allowed)))
        if not limit:
            return [[] for _ in vectors]
        queries = np.stack(vectors)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        whole = self._rows > self._exact_rows and self._graph.ntotal == self._rows
        find = self._by_graph if whole else self._exactly
        return [self._named(rows, scores) for rows, scores in find(queries, limit, allowed)]

    def _exactly(
        self, queries: NDArray[np.float32], limit: int, allowed: NDArray[np.bool_]
    ) -> Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        scores = queries @ self._matrix[: self._rows].T
        scores[:, ~allowed] = -np.inf
        for line in scores:
            best = np.argpartition(line, -limit)[-limit:]
            ordered = best[np.lexsort((best, -line[best]))]
            yield ordered, line[ordered]

    def _by_graph(
        self, queries: NDArray[np.float32], limit: int, allowed: NDArray[np.bool_]
    ) -> Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        bits = np.packbits(allowed, bitorder="little")
        chosen: Any = faiss.SearchParametersHNSW(  # type: ignore[attr-defined]
            efSearch=max(SEARCH_BREADTH, 2 * limit),
            sel=faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits)),
        )
        scores, rows = self._graph.search(queries, limit, params=chosen)
        for found, line in zip(rows, scores, strict=True):
            yield found[found >= 0], line[found >= 0]

    def _named(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> list[tuple[str, int, float]]:
        pairs = zip(rows.tolist(), scores.tolist(), strict=True)
        return [(self._chunk_ids[row], self._keys[row], score) for row, score in pairs]

    def _kill(self, row: int) -> None:
        self._alive[row] = False
        self._rows_of_key[self._keys[row]].discard(row)

    def _clear(self, capacity: int) -> None:
        self._rows = 0
        self._matrix = np.zeros((capacity, self._dimensions), np.float32)
        self._alive = np.zeros(capacity, np.bool_)
        self._chunk_ids: list[str] = []
        self._keys: list[int] = []
        self._row_of: dict[str, int] = {}
        self._rows_of_key: defaultdict[int, set[int]] = defaultdict(set)
        self._graph = _new_graph(self._dimensions)

    def _reserve(self, capacity: int) -> None:
        more = capacity - len(self._matrix)
        self._matrix = np.vstack([self._matrix, np.zeros((more, self._dimensions), np.float32)])
        self._alive = np.concatenate([self._alive, np.zeros(more, np.bool_)])

    def _compact(self) -> None:
        living = sorted(self._row_of.values())
        kept = [(self._chunk_ids[row], self._keys[row], self._matrix[row]) for row in living]
        self._clear(capacity=max(1_024, len(kept)))
        for chunk_id, key, vector in kept:
            self.upsert(chunk_id, key, vector)


def _new_graph(dimensions: int) -> Any:
    # Its threads would take what other processes of a small machine need.
    faiss.omp_set_num_threads(1)
    graph = faiss.IndexHNSWFlat(dimensions, LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = BUILD_BREADTH
    return graph
