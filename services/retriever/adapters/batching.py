"""Joins searches that wait at the same time into one call of the vector store.

The store's cost is mostly by call, not by vector: 32 searches in one call take about twice as long
as one.
"""

import asyncio
from dataclasses import dataclass, field

from services.retriever.adapters.vector_store import Found, VectorStore
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
