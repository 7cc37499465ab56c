"""The copy in memory finds what looking at every vector finds, and nothing that is gone."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retriever.adapters.near_index import NearIndex
from services.retriever.domain.vectors import Vector

DIMENSIONS = 16
EVERY_STEP = 10_000


def vector(seed: int) -> Vector:
    return np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)


class Plain:
    """The same, by looking at everything each time."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[int, Vector]] = {}

    def upsert(self, chunk_id: str, key: int, value: Vector) -> None:
        self.held[chunk_id] = (key, value)

    def delete_versions(self, keys: list[int]) -> None:
        self.held = {c: (k, v) for c, (k, v) in self.held.items() if k not in keys}

    def search(self, query: Vector, hidden: list[int]) -> dict[str, float]:
        def cosine(value: Vector) -> float:
            return float(query @ value / np.linalg.norm(query) / np.linalg.norm(value))

        return {c: cosine(v) for c, (k, v) in self.held.items() if k not in hidden}


ACTIONS = st.one_of(
    st.tuples(st.just("upsert"), st.integers(0, 30), st.integers(0, 8), st.integers(0, 10**6)),
    st.tuples(st.just("delete"), st.lists(st.integers(0, 8), max_size=3)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=60), st.lists(st.integers(0, 8), max_size=3), st.integers(1, 40))
@pytest.mark.parametrize("exact_rows", [EVERY_STEP, 5], ids=["exact", "graph"])
def test_it_finds_what_looking_at_every_vector_finds(
    exact_rows: int, actions: list[tuple[object, ...]], hidden: list[int], limit: int
) -> None:
    near, plain = NearIndex(DIMENSIONS, exact_rows), Plain()
    for action, *rest in actions:
        if action == "upsert":
            number, key, seed = rest
            for each in (near, plain):
                each.upsert(f"c{number}", key, vector(seed))  # type: ignore[arg-type,attr-defined]
        else:
            for each in (near, plain):
                each.delete_versions(rest[0])  # type: ignore[arg-type,attr-defined]
        near.settle()
    query = vector(7)
    (found,) = near.search([query], limit, hidden)
    wanted = plain.search(query, hidden)
    assert len(near) == len(plain.held)
    assert len(found) == min(limit, len(wanted))
    assert [score for *_, score in found] == sorted((s for *_, s in found), reverse=True)
    best = sorted(wanted.values(), reverse=True)[: len(found)]
    np.testing.assert_allclose([score for *_, score in found], best, atol=1e-5)
    for chunk_id, key, score in found:
        assert plain.held[chunk_id][0] == key
        assert score == pytest.approx(wanted[chunk_id], abs=1e-5)


def test_a_large_one_is_searched_by_its_graph_and_misses_little() -> None:
    near, held, rng = NearIndex(DIMENSIONS, exact_rows=500), {}, random.Random(3)
    for number in range(4_000):
        held[f"c{number}"] = vector(number)
        near.upsert(f"c{number}", number // 4, held[f"c{number}"])
        if number % 250 == 0:
            near.settle()
    while near._graph.ntotal < near._rows:
        near.settle()
    gone = rng.sample(range(1_000), 100)
    near.delete_versions(gone[:50])
    matrix = np.stack([value / np.linalg.norm(value) for value in held.values()])
    out = np.isin(np.arange(4_000) // 4, gone)
    right = 0
    for seed in range(100):
        query = vector(10_000 + seed)
        scores = np.where(out, -2.0, matrix @ query)
        best = {f"c{row}" for row in np.argsort(-scores)[:10]}
        (found,) = near.search([query], 10, gone[50:])
        assert not {key for _, key, _ in found} & set(gone)
        right += len(best & {chunk_id for chunk_id, *_ in found})
    assert right >= 980


def test_what_is_dead_does_not_pile_up() -> None:
    near = NearIndex(DIMENSIONS, exact_rows=100)
    for round_number in range(40):
        for number in range(60):
            near.upsert(f"c{number}", round_number, vector(number))
        near.settle()
    assert len(near) == 60
    assert near._rows <= 180
    assert len(near.search([vector(1)], 100)[0]) == 60


def test_an_empty_one_and_one_that_is_all_hidden_find_nothing() -> None:
    near = NearIndex(DIMENSIONS)
    assert near.search([vector(1), vector(2)], 5) == [[], []]
    near.upsert("a", 1, vector(1))
    assert near.search([vector(1)], 5, [1]) == [[]]
