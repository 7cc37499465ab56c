"""The vector store is a projection: it can be lost, and it holds nothing that the rows forgot."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from services.retriever.adapters.store import ChunkRow, IndexRow, VersionRow
from services.retriever.adapters.vector_store import Entity
from services.retriever.domain import vectors
from services.retriever.handlers import indexing
from services.retriever.handlers.searching import describe_index
from tests.unit.retriever.world import World, embedded, retired, vector_of, with_store
from tidemill.faults import Fault, Reason


async def collection(world: World, tenant: str) -> str:
    async with world.database.session() as session:
        return (await session.get_one(IndexRow, tenant)).collection


async def rows(world: World, table: type[ChunkRow] | type[VersionRow]) -> int:
    async with world.database.session() as session:
        return (await session.scalars(select(func.count()).select_from(table))).one()


async def test_replaced_and_withdrawn_versions_are_swept_after_the_grace(world: World) -> None:
    await world.deliver(embedded("acme", "d", 1, ["one", "two"]))
    await world.deliver(embedded("acme", "d", 2, ["three"]))
    await world.deliver(embedded("acme", "gone", 1, ["four"]))
    await world.deliver(retired("acme", "gone", 2))
    name = await collection(world, "acme")

    await world.upkeep.sweep()
    assert len(await world.vectors.contents(name)) == 4, "a search may still need them"

    world.clock.forward(61.0)
    await world.upkeep.sweep()
    assert len(await world.vectors.contents(name)) == 1
    assert (await rows(world, ChunkRow), await rows(world, VersionRow)) == (1, 1)
    assert await world.found("acme", "three") == {("d", 2, "three")}


async def test_a_step_of_the_wall_clock_sweeps_nothing_that_a_search_may_need(
    world: World,
) -> None:
    await world.deliver(embedded("acme", "d", 1, ["one"]))
    await world.deliver(embedded("acme", "d", 2, ["two"]))
    name = await collection(world, "acme")
    world.clock.stepped = timedelta(hours=1)
    await world.upkeep.sweep()
    assert len(await world.vectors.contents(name)) == 2
    world.clock.forward(901.0)
    await world.upkeep.sweep()
    assert len(await world.vectors.contents(name)) == 1


async def test_a_version_that_was_overtaken_while_staged_is_swept_too(world: World) -> None:
    late = embedded("acme", "d", 1, ["late"])
    name = await indexing._stage(world.bus, late, "acme")
    await world.vectors.create_collection(name, 8)
    await world.vectors.upsert(name, indexing.check(late, world.delivery("acme", "d")))
    await world.deliver(embedded("acme", "d", 2, ["newer"]))
    await world.deliver(late)

    world.clock.forward(61.0)
    await world.upkeep.sweep()
    assert len(await world.vectors.contents(name)) == 2, "its handler may still be at work"
    world.clock.forward(901.0)
    await world.upkeep.sweep()
    assert len(await world.vectors.contents(name)) == 1


async def test_a_lost_vector_store_is_rebuilt_from_the_rows(world: World, tmp_path: Path) -> None:
    await world.deliver(embedded("acme", "d", 1, ["one", "two"]))
    await world.deliver(embedded("other", "d", 1, ["three"]))
    before = await describe_index(world.database, "acme")
    async with world.restarted(tmp_path / "fresh.db") as after:
        with pytest.raises(Fault) as refused:
            await after.search("acme", "one")
        assert refused.value.reason is Reason.DEPENDENCY_UNAVAILABLE, "no answer beats a wrong one"
        await after.upkeep.reconcile_once()
        assert await after.found("acme", "one") == {("d", 1, "one"), ("d", 1, "two")}
        assert await after.found("other", "one") == {("d", 1, "three")}
        assert await describe_index(after.database, "acme") == before


async def test_what_the_rows_do_not_know_is_removed_and_what_is_missing_restored(
    world: World,
) -> None:
    await world.deliver(embedded("acme", "d", 1, ["one", "two"]))
    await world.deliver(embedded("acme", "e", 1, ["three"]))
    name = await collection(world, "acme")
    contents = await world.vectors.contents(name)
    stray = vectors.decode(vector_of("stray"), 8)
    assert stray is not None
    await world.vectors.upsert(name, [Entity("stray", 77, stray)])
    await world.vectors.delete_versions(name, [next(iter(contents.values()))])

    await with_store(world, world.vectors).upkeep.reconcile()
    assert await world.vectors.contents(name) == contents


async def test_reconciling_twice_changes_nothing(world: World) -> None:
    await world.deliver(embedded("acme", "d", 1, ["one"]))
    name = await collection(world, "acme")
    before = await world.vectors.contents(name)
    await world.upkeep.reconcile()
    await world.upkeep.reconcile()
    assert await world.vectors.contents(name) == before


async def test_vectors_survive_a_restart(world: World, tmp_path: Path) -> None:
    await world.deliver(embedded("acme", "d", 1, ["one"]))
    async with world.restarted(tmp_path / "milvus.db") as after:
        await after.upkeep.reconcile()
        assert await after.found("acme", "one") == {("d", 1, "one")}
