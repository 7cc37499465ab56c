"""Searches stay within the tenant, the model and the bounds."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retriever.adapters.batching import SearchBatcher
from services.retriever.adapters.vector_store import VectorStore
from services.retriever.domain.manifest import manifest_hash
from services.retriever.domain.naming import collection_name
from services.retriever.domain.vectors import Vector
from services.retriever.handlers.searching import describe_index, search
from tests.unit.retriever.world import MODEL, World, embedded, retired, vector_of
from tidemill.api.common.v1 import EmbeddingModel
from tidemill.faults import Fault, Reason

TENANTS = ["acme", "acme2", "acm", "a-b", "a_b"]
HOSTILE = ['acme" or tenant_id != "', "*", "%", "../acme", "ACME", "acme\n", ""]


async def test_every_tenant_finds_its_own_marker_and_no_other(world: World) -> None:
    for tenant in TENANTS:
        await world.deliver(embedded(tenant, "d", 1, ["the same text", f"marker of {tenant}"]))
    for tenant in TENANTS:
        for other in TENANTS:
            found = await world.found(tenant, f"marker of {other}")
            assert found == {("d", 1, "the same text"), ("d", 1, f"marker of {tenant}")}
    for tenant in HOSTILE:
        assert await world.found(tenant, "marker of acme") == set()


@given(st.text(max_size=40), st.text(max_size=40))
def test_collection_names_are_safe_and_distinct(one: str, two: str) -> None:
    names = {collection_name(one, "v"), collection_name(two, "v"), collection_name(one, "w")}
    assert len(names) == (2 if one == two else 3)
    assert all(name.replace("_", "").isalnum() and name.isascii() for name in names)


async def test_a_tenant_without_documents_finds_nothing(world: World) -> None:
    assert await world.search("nobody", "anything") == []
    described = await describe_index(world.database, "nobody")
    assert (described.model, described.documents, described.chunks) == (None, 0, 0)


@pytest.mark.parametrize(
    "model",
    [
        EmbeddingModel(name="toy", version="v2", dimensions=8),
        EmbeddingModel(name="toy", version="v1", dimensions=4),
        EmbeddingModel(name="other", version="v1", dimensions=8),
    ],
)
async def test_refuses_a_query_of_another_model(world: World, model: EmbeddingModel) -> None:
    await world.deliver(embedded("acme", "d", 1, ["text"]))
    with pytest.raises(Fault) as refused:
        await world.search("acme", "text", model=model)
    assert refused.value.reason is Reason.EMBEDDING_MODEL_MISMATCH


@pytest.mark.parametrize(
    ("data", "top_k"),
    [(b"", 5), (b"\0" * 32, 5), (vector_of("x"), 51), (vector_of("x"), -1), (vector_of("x", 7), 5)],
)
async def test_refuses_what_is_no_query(world: World, data: bytes, top_k: int) -> None:
    with pytest.raises(Fault) as refused:
        await search(world.searching, "acme", data, MODEL, top_k)
    assert refused.value.reason is Reason.INVALID_ARGUMENT


async def test_returns_the_nearest_first_and_five_by_default(world: World) -> None:
    texts = [f"text {i}" for i in range(20)]
    await world.deliver(embedded("acme", "d", 1, texts))
    passages = await world.search("acme", "text 7", top_k=0)
    scores = [passage.score for passage in passages]
    assert len(passages) == 5
    assert passages[0].chunk.text == "text 7"
    assert scores == sorted(scores, reverse=True)


async def test_many_dead_versions_do_not_crowd_out_the_living(world: World) -> None:
    """The near hits all belong to replaced versions that were not swept yet."""
    await world.deliver(embedded("acme", "living", 1, ["far away"]))
    for version in range(1, 5):
        await world.deliver(embedded("acme", "d", version, [f"near {i}" for i in range(15)]))
    await world.deliver(embedded("acme", "d", 5, ["last"]))
    assert await world.found("acme", "near 1", top_k=5) == {
        ("living", 1, "far away"),
        ("d", 5, "last"),
    }


@pytest.fixture
def calls(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Queries of each call of the vector store, which takes as long as a distant one."""
    sizes: list[int] = []

    async def distant(name: str, queries: Sequence[Vector], *arguments: Any) -> Any:
        sizes.append(len(queries))
        await asyncio.sleep(0.1)
        copy = VectorStore.copy_of(world.vectors, name)
        assert copy is not None
        return copy(queries, *arguments)

    monkeypatch.setattr(world.vectors, "search", distant)
    monkeypatch.setattr(world.vectors, "copy_of", lambda name: None)
    return sizes


async def test_concurrent_searches_share_calls_and_get_their_own_answers(
    world: World, calls: list[int]
) -> None:
    texts = [f"text {i}" for i in range(40)]
    await world.deliver(embedded("acme", "d", 1, texts))
    answers = await asyncio.gather(*(world.search("acme", text, top_k=1) for text in texts))
    assert [answer[0].chunk.text for answer in answers] == texts
    assert sum(calls) == len(texts)
    assert len(calls) < len(texts) / 2


async def test_refuses_more_searches_than_may_wait(world: World, calls: list[int]) -> None:
    await world.deliver(embedded("acme", "d", 1, ["text"]))
    world.searching = type(world.searching)(
        world.database, SearchBatcher(world.vectors, 2), world.vectors, world.upkeep
    )
    outcomes = await asyncio.gather(
        *(world.search("acme", "text") for _ in range(12)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, Fault)]
    assert {fault.reason for fault in refused} == {Reason.OVERLOADED}
    assert 0 < len(refused) < 12
    assert sum(calls) == 12 - len(refused)


async def test_a_cancelled_search_does_not_harm_those_that_share_its_call(world: World) -> None:
    await world.deliver(embedded("acme", "d", 1, ["text"]))
    tasks = [asyncio.create_task(world.search("acme", "text")) for _ in range(6)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert all(isinstance(outcome, list) for i, outcome in enumerate(outcomes) if i != 1)


async def test_a_search_reads_once_while_nothing_changes_and_sees_every_change_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[object] = []
    original = world.database.read

    async def counted(work: Any) -> Any:
        reads.append(work)
        return await original(work)

    monkeypatch.setattr(world.database, "read", counted)
    await world.deliver(embedded("acme", "d", 1, ["old"]))
    assert await world.found("acme", "old") == {("d", 1, "old")}
    before = len(reads)
    assert await world.found("acme", "old") == {("d", 1, "old")}
    assert len(reads) == before + 1
    await world.deliver(embedded("acme", "d", 2, ["new"]))
    assert await world.found("acme", "old") == {("d", 2, "new")}
    await world.deliver(retired("acme", "d", 3))
    assert await world.found("acme", "old") == set()


async def test_the_manifest_depends_on_what_is_in_force_alone(world: World) -> None:
    """The same documents, in another order and over a detour, are the same index."""
    final = [embedded("acme", f"d{i}", 2, [f"{i} a", f"{i} b"]) for i in range(3)]
    for event in final:
        await world.deliver(event)
    straight = await describe_index(world.database, "acme")
    await world.deliver(embedded("acme", "passing", 1, ["soon gone"]))
    detour = await describe_index(world.database, "acme")
    await world.deliver(retired("acme", "passing", 2))
    assert (detour.documents, detour.chunks) == (4, 7)
    assert detour.manifest_hash != straight.manifest_hash
    assert await describe_index(world.database, "acme") == straight


@given(st.permutations([("a", 1, "x"), ("a", 1, "y"), ("a", 10, "z"), ("b", 2, "x")]))
def test_the_manifest_does_not_depend_on_order(rows: list[tuple[str, int, str]]) -> None:
    assert manifest_hash(rows) == manifest_hash(sorted(rows))
    assert manifest_hash(rows[1:]) != manifest_hash(rows)
