"""Versions come into force as one step, whatever order and number events come in."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.retriever.adapters.vector_store import VectorStore
from services.retriever.handlers.indexing import Indexing, take_embedded
from tests.unit.retriever.world import MODEL, World, embedded, retired
from tidemill.api.common.v1 import EmbeddingModel
from tidemill.api.events.v1 import ChunksEmbedded, DocumentRetired
from tidemill.faults import Fault, Reason


async def test_an_embedded_version_is_found_with_all_that_a_citation_needs(world: World) -> None:
    await world.deliver(embedded("acme", "hr/leave", 1, ["27 days of leave", "ask in Driftwood"]))
    first = (await world.search("acme", "ask in Driftwood"))[0]
    assert first.score == pytest.approx(1.0, abs=1e-5)
    assert (first.chunk.document_id, first.chunk.version) == ("hr/leave", 1)
    assert (first.chunk.ordinal, first.chunk.text) == (1, "ask in Driftwood")
    assert first.chunk.headings == ["Guide", "ask in Driftwood"]
    assert first.chunk.title == "hr/leave 1"


async def test_a_new_version_replaces_the_old_one_at_once(world: World) -> None:
    await world.deliver(embedded("acme", "d", 1, ["old one", "old two", "old three"]))
    await world.deliver(embedded("acme", "d", 2, ["new one"]))
    assert await world.found("acme", "old one") == {("d", 2, "new one")}


async def test_tells_that_a_version_is_searchable_or_gone(world: World) -> None:
    await world.deliver(embedded("acme", "d", 1, ["a", "b"]))
    await world.deliver(retired("acme", "d", 2))
    first, second = await world.indexed_events()
    assert (first.version, first.chunk_count, first.retired) == (1, 2, False)
    assert (second.version, second.chunk_count, second.retired) == (2, 0, True)
    assert first.embedding_model == second.embedding_model == MODEL


async def test_a_document_comes_back_after_its_withdrawal_only_by_a_higher_version(
    world: World,
) -> None:
    await world.deliver(retired("acme", "d", 2))
    await world.deliver(embedded("acme", "d", 1, ["late"]))
    assert await world.found("acme", "late") == set()
    await world.deliver(embedded("acme", "d", 3, ["again"]))
    assert await world.found("acme", "late") == {("d", 3, "again")}


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
async def test_any_order_and_repetition_ends_in_the_highest_version(
    world: World, data: st.DataObject
) -> None:
    document = f"d{world.events}"
    withdrawn = data.draw(st.sets(st.integers(2, 4)), label="versions that are withdrawals")
    history = [version_of(document, v, v in withdrawn) for v in range(1, 5)]
    again = data.draw(st.lists(st.integers(0, 3), max_size=4), label="repeated")
    for index in data.draw(st.permutations([0, 1, 2, 3, *again]), label="order"):
        await world.deliver(history[index], event_id=f"{document}-{index}")
    found = {hit for hit in await world.found("acme", "4 a") if hit[0] == document}
    in_force = {(document, 4, "4 a"), (document, 4, "4 b")}
    assert found == (set() if 4 in withdrawn else in_force)


def version_of(document: str, version: int, withdrawn: bool) -> ChunksEmbedded | DocumentRetired:
    if withdrawn:
        return retired("acme", document, version)
    return embedded("acme", document, version, [f"{version} a", f"{version} b"])


async def test_searches_see_each_version_whole_while_it_is_replaced(world: World) -> None:
    """Never two versions, never none, never a part: that is what atomic means to a reader."""
    sizes = {version: 3 + version % 4 for version in range(1, 8)}
    await world.deliver(embedded("acme", "d", 1, [f"1 {i}" for i in range(sizes[1])]))
    await world.deliver(embedded("acme", "other", 1, ["other"]))
    done = asyncio.Event()
    seen: list[set[tuple[str, int, str]]] = []

    async def read() -> None:
        while not done.is_set():
            seen.append(await world.found("acme", "1 0"))

    readers = [asyncio.create_task(read()) for _ in range(4)]
    for version in range(2, 8):
        texts = [f"{version} {i}" for i in range(sizes[version])]
        await world.deliver(embedded("acme", "d", version, texts))
        world.clock.forward(30.0)
        await world.upkeep.sweep()
    done.set()
    await asyncio.gather(*readers)

    assert len(seen) > 6
    for hits in seen:
        versions = {version for document, version, _ in hits if document == "d"}
        assert len(versions) == 1, "a reader saw two versions, or none"
        assert len(hits) == sizes[versions.pop()] + 1, "a reader saw a part of a version"


class StopsBeforeTheFlip(Exception):
    """The process dies here."""


async def test_a_crash_before_the_flip_leaves_the_old_version_and_the_next_try_finishes(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await world.deliver(embedded("acme", "d", 1, ["old"]))
    with monkeypatch.context() as patch:
        patch.setattr("services.retriever.handlers.indexing.next_revision", die)
        with pytest.raises(StopsBeforeTheFlip):
            await world.deliver(embedded("acme", "d", 2, ["new"]), event_id="e2")
    assert await world.found("acme", "new") == {("d", 1, "old")}
    async with world.restarted(tmp_path / "milvus.db") as after:
        await after.upkeep.reconcile()
        assert await after.found("acme", "new") == {("d", 1, "old")}
        await after.deliver(embedded("acme", "d", 2, ["new"]), event_id="e2")
        assert await after.found("acme", "new") == {("d", 2, "new")}


def die(*_: object) -> int:
    raise StopsBeforeTheFlip


async def test_refuses_vectors_of_another_model(world: World) -> None:
    await world.deliver(embedded("acme", "d", 1, ["old"]))
    other = EmbeddingModel(name="toy", version="v2", dimensions=8)
    with pytest.raises(Fault) as refused:
        await world.deliver(embedded("acme", "d", 2, ["new"], other))
    assert refused.value.reason is Reason.EMBEDDING_MODEL_MISMATCH
    assert not refused.value.retryable
    assert await world.found("acme", "new") == {("d", 1, "old")}


BROKEN = {
    "version": lambda event: setattr(event, "version", 0),
    "chunks": lambda event: event.ClearField("chunks"),
    "vector": lambda event: setattr(event.chunks[0], "vector", b"1234"),
    "infinite": lambda event: setattr(event.chunks[0], "vector", b"\x00\x00\x80\x7f" * 8),
    "duplicate": lambda event: event.chunks.append(event.chunks[0]),
    "model": lambda event: event.ClearField("embedding_model"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_refuses_an_event_that_contradicts_itself(world: World, name: str) -> None:
    event = embedded("acme", "d", 1, ["text"])
    BROKEN[name](event)  # type: ignore[no-untyped-call]
    with pytest.raises(Fault) as refused:
        await world.deliver(event)
    assert refused.value.reason is Reason.INVALID_ARGUMENT
    assert await world.indexed_events() == []


async def test_refuses_an_event_for_another_tenant_than_its_key(world: World) -> None:
    event = embedded("acme", "d", 1, ["text"])
    delivery = world.delivery("intruder", "d")
    with pytest.raises(Fault) as refused:
        await take_embedded(Indexing(world.bus, world.vectors), event, delivery)
    assert refused.value.reason is Reason.TENANT_MISMATCH


async def test_a_vector_store_that_is_away_is_a_retryable_fault(world: World) -> None:
    async with VectorStore("http://127.0.0.1:1", 0.5) as away:
        event = embedded("acme", "d", 1, ["text"])
        with pytest.raises(Fault) as refused:
            await take_embedded(Indexing(world.bus, away), event, world.delivery("acme", "d"))
    assert refused.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert refused.value.retryable
    await world.deliver(event)
    assert await world.found("acme", "text") == {("d", 1, "text")}


WHEN = ["before the vectors are searched", "after"]


@pytest.mark.parametrize("is_known", [False, True], ids=["first search", "later search"])
@pytest.mark.parametrize("when", WHEN)
async def test_a_search_of_a_server_keeps_to_one_moment(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str, is_known: bool
) -> None:
    old, new = {("d", 1, "old one"), ("d", 1, "old two")}, {("d", 2, "new")}
    await world.deliver(embedded("acme", "d", 1, ["old one", "old two"]))
    if is_known:
        assert await world.found("acme", "old one") == old
    original, calls = world.vectors.search, 0

    async def swapped(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        found = None if when.startswith("before") else await original(*arguments, **options)
        if calls == 1:
            await replace(world)
        return found if found is not None else await original(*arguments, **options)

    monkeypatch.setattr(world.vectors, "search", swapped)
    monkeypatch.setattr(world.vectors, "copy_of", lambda name: None)
    # One that began with what it knew from before begins again, and sees the newest.
    assert await world.found("acme", "old one") == (new if is_known else old)
    monkeypatch.undo()
    assert await world.found("acme", "old one") == new


@pytest.mark.parametrize("when", WHEN)
async def test_a_search_of_the_copy_keeps_to_one_moment(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    await world.deliver(embedded("acme", "d", 1, ["old one", "old two"]))
    original, loop = world.vectors.copy_of, asyncio.get_running_loop()

    def copy_of(name: str) -> Any:
        search = original(name)

        def swapped(*arguments: Any) -> Any:
            assert search is not None
            found = None if when.startswith("before") else search(*arguments)
            asyncio.run_coroutine_threadsafe(replace(world), loop).result()
            return found if found is not None else search(*arguments)

        return swapped

    monkeypatch.setattr(world.vectors, "copy_of", copy_of)
    old = {("d", 1, "old one"), ("d", 1, "old two")}
    assert await world.found("acme", "old one") == old
    monkeypatch.undo()
    assert await world.found("acme", "old one") == {("d", 2, "new")}


async def replace(world: World) -> None:
    """A new version comes, and the old one's vectors are about to be swept."""
    await world.deliver(embedded("acme", "d", 2, ["new"]), event_id="swap")
    world.clock.forward(59.0)
    await world.upkeep.sweep()


async def test_versions_that_arrive_together_share_a_call_of_the_store(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    original = world.vectors.upsert

    async def counted(name: str, entities: Any) -> None:
        calls.append(len(entities))
        await original(name, entities)

    monkeypatch.setattr(world.vectors, "upsert", counted)
    indexing = Indexing(world.bus, world.vectors)
    events = [embedded("acme", f"d{n}", 1, [f"{n} a", f"{n} b"]) for n in range(20)]
    deliveries = [world.delivery("acme", event.document_id) for event in events]
    pairs = zip(events, deliveries, strict=True)
    await asyncio.gather(*(take_embedded(indexing, e, d) for e, d in pairs))
    assert sum(calls) == 40
    assert len(calls) < 10
    assert len(await world.found("acme", "0 a")) == 40
    assert len(await world.indexed_events()) == 20
