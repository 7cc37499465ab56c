"""What the retriever asks of a vector store, whichever one it is."""

import asyncio

import numpy as np
import pytest

from services.retriever.adapters.vector_store import Entity, Found, VectorStore
from services.retriever.domain.vectors import Vector
from tests.conformance.vectors.conftest import CALL_SECONDS, DIMENSIONS


def vector(seed: int) -> Vector:
    return np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)


def entity(number: int, key: int = 1) -> Entity:
    return Entity(f"c{number:03}", key, vector(number))


def cosine(one: Vector, other: Vector) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def ids(found: list[Found]) -> list[str]:
    return [hit.chunk_id for hit in found]


async def test_what_was_written_is_found_at_once(store: VectorStore, collection: str) -> None:
    """Read your write: a version is put in force right after its vectors were written."""
    for number in range(20):
        await store.upsert(collection, [entity(number)])
        (found,) = await store.search(collection, [vector(number)], 1)
        assert ids(found) == [f"c{number:03}"]


async def test_another_client_finds_it_at_once(
    store: VectorStore, collection: str, address: str
) -> None:
    if not address.startswith("http"):
        pytest.skip("one process owns a file")
    async with VectorStore(address, CALL_SECONDS) as other:
        for number in range(10):
            await store.upsert(collection, [entity(number)])
            (found,) = await other.search(collection, [vector(number)], 1)
            assert ids(found) == [f"c{number:03}"]
            await other.delete_versions(collection, [1])
            assert await store.search(collection, [vector(number)], 1) == [[]]


async def test_the_nearest_come_first_with_their_cosine(
    store: VectorStore, collection: str
) -> None:
    await store.upsert(collection, [entity(number, number // 3) for number in range(60)])
    queries = [vector(1_000), vector(1_001)]
    for query, found in zip(queries, await store.search(collection, queries, 10), strict=True):
        wanted = sorted(range(60), key=lambda n: -cosine(query, vector(n)))[:10]
        assert ids(found) == [f"c{number:03}" for number in wanted]
        assert [hit.version_key for hit in found] == [number // 3 for number in wanted]
        scores = [cosine(query, vector(number)) for number in wanted]
        assert [hit.score for hit in found] == pytest.approx(scores, abs=1e-5)


async def test_hidden_versions_do_not_crowd_out_the_others(
    store: VectorStore, collection: str
) -> None:
    await store.upsert(collection, [entity(number, key=number % 4) for number in range(40)])
    (found,) = await store.search(collection, [vector(5_000)], 10, hidden=[0, 1, 2])
    assert len(found) == 10
    assert {hit.version_key for hit in found} == {3}


async def test_writing_again_replaces(store: VectorStore, collection: str) -> None:
    await store.upsert(collection, [entity(1), entity(2)])
    await store.upsert(collection, [Entity("c001", 9, vector(77)), entity(2)])
    (found,) = await store.search(collection, [vector(77)], 10)
    assert ids(found)[0] == "c001"
    assert found[0].version_key == 9
    assert found[0].score == pytest.approx(1.0, abs=1e-5)
    assert await store.contents(collection) == {"c001": 9, "c002": 1}


async def test_deleted_versions_are_gone_at_once(store: VectorStore, collection: str) -> None:
    await store.upsert(collection, [entity(number, key=number % 3) for number in range(30)])
    await store.delete_versions(collection, [0, 2])
    (found,) = await store.search(collection, [vector(0)], 30)
    assert {hit.version_key for hit in found} == {1}
    assert len(found) == 10
    assert set((await store.contents(collection)).values()) == {1}
    await store.delete_versions(collection, [0, 2])


async def test_many_rows_and_a_large_limit(store: VectorStore, collection: str) -> None:
    """More than one call's worth, and a version key of 63 bits."""
    key = (1 << 63) - 1
    entities = [Entity(f"c{number:04}", key, vector(number)) for number in range(1_200)]
    await store.upsert(collection, entities)
    contents = await store.contents(collection)
    assert len(contents) == 1_200
    assert set(contents.values()) == {key}
    (found,) = await store.search(collection, [vector(3)], 1_100)
    assert len(found) == len(set(ids(found))) == 1_100


async def test_a_collection_that_is_there_keeps_what_it_holds(
    store: VectorStore, collection: str
) -> None:
    await store.upsert(collection, [entity(1)])
    await store.create_collection(collection, DIMENSIONS)
    assert await store.contents(collection) == {"c001": 1}
    (found,) = await store.search(collection, [vector(1)], 5)
    assert ids(found) == ["c001"]


async def test_one_tenants_collection_is_never_in_anothers_search(
    store: VectorStore, collection: str, address: str
) -> None:
    other = f"{collection}_b"
    await store.create_collection(other, DIMENSIONS)
    await store.upsert(collection, [entity(1, key=1)])
    await store.upsert(other, [entity(1, key=2), entity(2, key=2)])
    (mine,) = await store.search(collection, [vector(1)], 10)
    (theirs,) = await store.search(other, [vector(1)], 10)
    assert {hit.version_key for hit in mine} == {1}
    assert {hit.version_key for hit in theirs} == {2}
    await store.delete_versions(other, [1, 2])
    assert ids((await store.search(collection, [vector(1)], 10))[0]) == ["c001"]
    if address.startswith("http"):
        store._client.drop_collection(other)  # type: ignore[union-attr]


async def test_searches_and_writes_at_the_same_time_are_whole(
    store: VectorStore, collection: str
) -> None:
    async def write(key: int) -> None:
        await store.upsert(collection, [entity(10 * key + n, key) for n in range(10)])

    async def look() -> None:
        (found,) = await store.search(collection, [vector(1)], 200)
        assert len(found) == len(set(ids(found)))

    await asyncio.gather(*(work for key in range(12) for work in (write(key), look())))
    assert len(await store.contents(collection)) == 120


async def test_a_file_or_server_opened_again_holds_everything(
    collection: str, address: str
) -> None:
    async with VectorStore(address, CALL_SECONDS) as first:
        await first.create_collection(collection, DIMENSIONS)
        await first.upsert(collection, [entity(number) for number in range(30)])
    async with VectorStore(address, CALL_SECONDS) as second:
        assert len(await second.contents(collection)) == 30
        (found,) = await second.search(collection, [vector(4)], 1)
        assert ids(found) == ["c004"]
        if second.keeps_copies:
            await second.begin_copy(collection, DIMENSIONS)
            await second.copy(collection, [entity(number) for number in range(30)])
            (found,) = await second.search(collection, [vector(4)], 1)
            assert ids(found) == ["c004"]
