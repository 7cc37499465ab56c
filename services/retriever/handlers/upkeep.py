"""Keeps the vector store equal to the rows: repairs it at start, sweeps it while running."""

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

import structlog
from sqlalchemy.orm import Session

from services.retriever.adapters import queries
from services.retriever.adapters.store import IndexRow
from services.retriever.adapters.vector_store import Entity, VectorStore
from services.retriever.domain import vectors
from tidemill.bus import Bus
from tidemill.clock import Clock, StepWatch

log = structlog.get_logger()


class Upkeep:
    """reconciled: whether this process has compared the store with the rows since its start."""

    def __init__(
        self,
        bus: Bus,
        store: VectorStore,
        clock: Clock,
        *,
        grace_seconds: float,
        staged_grace_seconds: float,
    ) -> None:
        self._bus = bus
        self._store = store
        self._clock = clock
        self._grace = timedelta(seconds=grace_seconds)
        self._staged_grace = timedelta(seconds=staged_grace_seconds)
        self._steps = StepWatch(clock)
        self.reconciled = False

    async def reconcile_once(self) -> bool:
        """Raises Fault while the vector store is away; does nothing after the first success, after
        which nothing is left to do: False."""
        if not self.reconciled:
            await self.reconcile()
        return False

    async def reconcile(self) -> None:
        """After it, every chunk of the rows is in the vector store and nothing else is."""
        for index in await self._indexes():
            await self._store.create_collection(index.collection, index.dimensions)
            if self._store.keeps_copies:
                await self._store.begin_copy(index.collection, index.dimensions)
            # Contents first: what is staged after this look is then known to the rows.
            contents = await self._store.contents(index.collection)
            compare = partial(compared, tenant_id=index.tenant_id, contents=contents)
            wanted, missing, unknown = await self._bus.database.read(compare)
            await self._restore(index, missing)
            await self._remove(index, unknown)
            if self._store.keeps_copies:
                await self._copy(index, wanted)
            if missing or unknown:
                log.warning("index_repaired", restored=len(missing), removed=len(unknown))
        self.reconciled = True

    async def sweep(self) -> None:
        """Forgets versions that no search can still need: vectors first, then rows."""
        if not self.reconciled or not self._steps.steady_for(self._staged_grace):
            return
        for index in await self._indexes():
            while keys := await self.ended(index):
                await self._remove(index, keys)
                await self.forget_versions(index, keys)
                log.info("versions_swept", count=len(keys))

    async def ended(self, index: IndexRow) -> list[int]:
        """Keys of some versions that no search can still need; none when all are swept."""
        now = self._clock.now()
        return await self._bus.database.read(
            lambda session: queries.swept_keys(
                session, index.tenant_id, now - self._grace, now - self._staged_grace
            )
        )

    async def forget_versions(self, index: IndexRow, keys: list[int]) -> None:
        """Their rows."""
        await self._bus.write(
            index.tenant_id,
            lambda unit: queries.delete_versions(unit.session, index.tenant_id, keys),
        )

    async def _indexes(self) -> list[IndexRow]:
        return await self._bus.database.read(queries.list_indexes)

    async def _restore(self, index: IndexRow, chunk_ids: list[str]) -> None:
        async for entities in self._entities(index, chunk_ids):
            await self._store.upsert(index.collection, entities)

    async def _copy(self, index: IndexRow, chunk_ids: list[str]) -> None:
        async for entities in self._entities(index, chunk_ids):
            await self._store.copy(index.collection, entities)

    async def _entities(self, index: IndexRow, chunk_ids: list[str]) -> AsyncIterator[list[Entity]]:
        """What the rows hold of these chunks, a page at a time."""
        for start in range(0, len(chunk_ids), queries.PARAMETERS):
            part = chunk_ids[start : start + queries.PARAMETERS]
            find = partial(queries.vectors_of, tenant_id=index.tenant_id, chunk_ids=part)
            rows = await self._bus.database.read(find)
            decoded = [(c, k, vectors.decode(v, index.dimensions)) for c, k, v in rows]
            yield [Entity(c, k, vector) for c, k, vector in decoded if vector is not None]

    async def _remove(self, index: IndexRow, keys: list[int]) -> None:
        for start in range(0, len(keys), queries.PARAMETERS):
            part = keys[start : start + queries.PARAMETERS]
            await self._store.delete_versions(index.collection, part)


def compared(
    session: Session, tenant_id: str, contents: dict[str, int]
) -> tuple[list[str], list[str], list[int]]:
    """Chunks of the rows, those of them that the vector store lacks, and version keys of it that
    the rows do not know. contents: chunk id to version key. In the database's thread, because a
    large index takes seconds."""
    wanted = queries.chunk_keys(session, tenant_id)
    known = queries.known_keys(session, tenant_id)
    missing = [chunk for chunk, key in wanted.items() if contents.get(chunk) != key]
    unknown = sorted({key for key in contents.values() if key not in known})
    return list(wanted), missing, unknown
