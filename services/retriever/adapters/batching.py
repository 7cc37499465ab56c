"""Joins searches, and versions' vectors, that wait at the same time into one call of the store.

Its cost is mostly by call, not by vector: 32 searches in one call take about twice as long as one.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.retriever.adapters.vector_store import Entity, Found, VectorStore
from services.retriever.domain.vectors import Vector
from tidemill.faults import Fault, Reason

MAX_BATCH = 32


@dataclass
class Waiting:
    """A search and where its answer goes."""

    vector: Vector
    limit: int
    answer: asyncio.Future[list[Found]]


@dataclass
class Lane:
    """Searches of one collection; `worker` runs while there are any."""

    waiting: list[Waiting] = field(default_factory=list)
    worker: asyncio.Task[None] | None = None


class SearchBatcher:
    """One call in flight a collection; what comes meanwhile goes together into the next."""

    def __init__(self, store: VectorStore, max_waiting: int) -> None:
        self._store = store
        self._max_waiting = max_waiting
        self._lanes: dict[str, Lane] = {}

    async def search(self, collection: str, vector: Vector, limit: int) -> list[Found]:
        """Nearest first. Raises Fault(OVERLOADED) when too many wait."""
        lane = self._lanes.setdefault(collection, Lane())
        if sum(len(other.waiting) for other in self._lanes.values()) >= self._max_waiting:
            raise Fault(Reason.OVERLOADED)
        answer: asyncio.Future[list[Found]] = asyncio.get_running_loop().create_future()
        lane.waiting.append(Waiting(vector, limit, answer))
        if lane.worker is None:
            lane.worker = asyncio.create_task(self._drain(collection, lane))
        return await answer

    async def _drain(self, collection: str, lane: Lane) -> None:
        while lane.waiting:
            batch, lane.waiting = lane.waiting[:MAX_BATCH], lane.waiting[MAX_BATCH:]
            # Who was cancelled or ran out of time no longer listens.
            batch = [one for one in batch if not one.answer.done()]
            if batch:
                await self._answer(collection, batch)
        lane.worker = None
        del self._lanes[collection]

    async def _answer(self, collection: str, batch: list[Waiting]) -> None:
        limit = max(one.limit for one in batch)
        try:
            found = await self._store.search(collection, [one.vector for one in batch], limit)
        except Exception as error:
            for one in batch:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        for one, hits in zip(batch, found, strict=True):
            if not one.answer.done():
                one.answer.set_result(hits[: one.limit])


@dataclass(frozen=True)
class Upsert:
    """Vectors to be written; the future ends when they are."""

    entities: Sequence[Entity]
    done: "asyncio.Future[None]"


class UpsertBatcher:
    """One call in flight a collection; versions that come meanwhile go together into the next."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store
        self._waiting: dict[str, list[Upsert]] = {}
        self._workers: set[asyncio.Task[None]] = set()

    async def upsert(self, collection: str, entities: Sequence[Entity]) -> None:
        """Returns once all of them are written. Raises what the store raises."""
        upsert = Upsert(entities, asyncio.get_running_loop().create_future())
        if collection in self._waiting:
            self._waiting[collection].append(upsert)
        else:
            self._waiting[collection] = [upsert]
            worker = asyncio.create_task(self._drain(collection))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        await upsert.done

    async def _drain(self, collection: str) -> None:
        while waiting := self._waiting[collection]:
            self._waiting[collection] = []
            # Who was cancelled or ran out of time comes again by itself.
            await self._write(collection, [each for each in waiting if not each.done.done()])
        del self._waiting[collection]

    async def _write(self, collection: str, batch: list[Upsert]) -> None:
        error: Exception | None = None
        try:
            entities = [entity for each in batch for entity in each.entities]
            await self._store.upsert(collection, entities)
        except Exception as failed:
            error = failed
        for each in batch:
            if each.done.done():
                continue
            if error is None:
                each.done.set_result(None)
            else:
                each.done.set_exception(error)
