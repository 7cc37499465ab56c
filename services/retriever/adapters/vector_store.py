"""Milvus, as a file of milvus-lite or as a server; every call in a thread, with a deadline.

Searches of a file are answered from a copy in memory (near_index.py), searches of a server by it.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc
from pymilvus import DataType, MilvusClient, MilvusException

from services.retriever.adapters.near_index import NearIndex
from services.retriever.domain.vectors import Vector
from tidemill.faults import Fault, Reason

R = TypeVar("R")

ROWS_A_CALL = 500
MAX_LIMIT = 16_384
"""Milvus returns at most this many hits."""
SERVER_THREADS = 8
CLOSE_SECONDS = 2.0
CONTENTS_SECONDS = 600.0
"""Listing a whole collection takes many calls."""
CHANNEL = {
    # Attempts to connect end within five seconds and come a second apart, however long the server
    # is away; as a rule they would be two minutes apart in the end. A channel of its own, for one
    # that replaces another would go on with that one's waits.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.initial_reconnect_backoff_ms": 1_000,
    "grpc.min_reconnect_backoff_ms": 5_000,
    "grpc.max_reconnect_backoff_ms": 1_000,
}
FILE_CHANNEL = CHANNEL | {"grpc.keepalive_time_ms": 2**31 - 1}
"""milvus-lite, which is in this process, takes pings for an attack."""
NOT_LOADED = 101
"""Milvus' code for a collection that a restart left on disk."""


@dataclass(frozen=True)
class Entity:
    """A row of the vector store. vector: (dimensions,) float32."""

    chunk_id: str
    version_key: int
    vector: Vector


@dataclass(frozen=True)
class Found:
    """score: cosine similarity."""

    chunk_id: str
    version_key: int
    score: float


SearchCopy = Callable[..., list[list[Found]]]


class VectorStore:
    """Connects on first use and again after a failure. Use as an async context manager.

    address: a file that ends in ".db", or "http://host:port". timeout: seconds a call.
    All methods raise Fault(DEPENDENCY_UNAVAILABLE) when Milvus does not answer in time.
    """

    def __init__(self, address: str, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._client: MilvusClient | None = None
        self._closed = False
        self._near: dict[str, NearIndex] = {}
        self._near_turn = threading.Lock()
        # Collections that were there at the last call that did not fail.
        self._there: set[str] = set()
        # milvus-lite is safe for one caller at a time.
        threads = 1 if self._is_file else SERVER_THREADS
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="milvus")

    @property
    def _is_file(self) -> bool:
        return self._address.endswith(".db")

    async def __aenter__(self) -> "VectorStore":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Lets go of the file or the server; a second time it does nothing."""
        if not self._closed:
            self._closed = True
            loop = asyncio.get_running_loop()
            with suppress(TimeoutError):
                # A thread that hangs in the store is left to the end of the process.
                async with asyncio.timeout(CLOSE_SECONDS):
                    await loop.run_in_executor(self._threads, self._close)
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def create_collection(self, name: str, dimensions: int) -> None:
        """Nothing when it is there."""
        if name in self._there:
            return
        create = partial(_create, name=name, dimensions=dimensions, timeout=self._timeout)
        if await self._call(name, create) and self._is_file:
            self._near.setdefault(name, NearIndex(dimensions))
        self._there.add(name)

    @property
    def keeps_copies(self) -> bool:
        """Whether searches are answered from memory: then what the store held before this process
        began must be copied with begin_copy and copy."""
        return self._is_file

    async def begin_copy(self, name: str, dimensions: int) -> None:
        """From now on what is written here is in the copy too."""
        self._near[name] = NearIndex(dimensions)

    async def copy(self, name: str, entities: Sequence[Entity]) -> None:
        """Add what the store held before."""
        await self._in_thread(partial(self._remember, name, entities))

    async def upsert(self, name: str, entities: Sequence[Entity]) -> None:
        """In calls of bounded size, so that searches get their turn in between."""
        for start in range(0, len(entities), ROWS_A_CALL):
            part = entities[start : start + ROWS_A_CALL]
            await self._call(name, partial(self._upsert, name, part))

    def _upsert(self, name: str, entities: Sequence[Entity], client: MilvusClient) -> None:
        rows = [
            {"chunk_id": each.chunk_id, "version_key": each.version_key, "vector": each.vector}
            for each in entities
        ]
        client.upsert(name, rows, timeout=self._timeout)
        if name in self._near:
            self._remember(name, entities)

    async def search(
        self, name: str, vectors: Sequence[Vector], limit: int, hidden: Sequence[int] = ()
    ) -> list[list[Found]]:
        """Nearest first, for each vector. hidden: version keys to leave out."""
        if near := self.copy_of(name):
            return await self._in_thread(partial(near, vectors, limit, hidden))
        answer = await self._call(
            name,
            lambda client: client.search(
                name,
                data=[vector.tolist() for vector in vectors],
                anns_field="vector",
                limit=min(limit, MAX_LIMIT),
                filter=f"version_key not in {_listed(hidden)}" if hidden else "",
                output_fields=["version_key"],
                search_params={"metric_type": "COSINE"},
                consistency_level="Strong",
                timeout=self._timeout,
            ),
        )
        return [[_found(hit) for hit in hits] for hits in answer]

    def copy_of(self, name: str) -> SearchCopy | None:
        """Searches the copy at once, from any thread, like search; None without one."""
        near = self._near.get(name)
        return None if near is None else partial(self._search_copy, near)

    def _search_copy(
        self,
        near: NearIndex,
        vectors: Sequence[Vector],
        limit: int,
        hidden: Sequence[int] = (),
    ) -> list[list[Found]]:
        with self._near_turn:
            found = near.search(vectors, limit, hidden)
        return [[Found(*hit) for hit in hits] for hits in found]

    def _remember(self, name: str, entities: Sequence[Entity]) -> None:
        near = self._near[name]
        with self._near_turn:
            for entity in entities:
                near.upsert(entity.chunk_id, entity.version_key, entity.vector)
            near.settle()

    def _forget(self, name: str, keys: Sequence[int]) -> None:
        near = self._near[name]
        with self._near_turn:
            near.delete_versions(keys)
            near.settle()

    async def delete_versions(self, name: str, keys: Sequence[int]) -> None:
        """All chunks of these versions."""
        await self._call(
            name,
            lambda client: client.delete(
                name, filter=f"version_key in {_listed(keys)}", timeout=self._timeout
            ),
        )
        if name in self._near:
            await self._in_thread(partial(self._forget, name, keys))

    async def contents(self, name: str) -> dict[str, int]:
        """Chunk id to version key, of the whole collection."""
        return await self._call(
            name,
            lambda client: dict(_contents(client, name, self._timeout)),
            seconds=CONTENTS_SECONDS,
        )

    async def _call(
        self, name: str, work: Callable[[MilvusClient], R], *, seconds: float = 0.0
    ) -> R:
        """seconds: for work of many calls; twice the time of one call as a rule."""
        return await self._in_thread(partial(self._run, name, work), seconds=seconds)

    async def _in_thread(self, work: Callable[[], R], *, seconds: float = 0.0) -> R:
        """One at a time for a file, its copy included."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds or 2 * self._timeout):
                return await loop.run_in_executor(self._threads, work)
        except TimeoutError as error:
            raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="milvus") from error

    def _run(self, name: str, work: Callable[[MilvusClient], R]) -> R:
        try:
            if self._client is None:
                self._client = self._connect()
            try:
                return work(self._client)
            except MilvusException as error:
                if error.code != NOT_LOADED:
                    raise
            self._client.load_collection(name, timeout=self._timeout)
            return work(self._client)
        except (MilvusException, grpc.RpcError) as error:
            # It may be that the collection is gone; the next try looks.
            self._there.discard(name)
            raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="milvus") from error

    def _connect(self) -> MilvusClient:
        # The library prints each failure with its stack and the server's words.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        if self._is_file:
            logging.getLogger("milvus_lite").setLevel(logging.CRITICAL)
            # The logger of synchronous gRPC servers; the embedded one is the only one here.
            logging.getLogger("grpc._server").setLevel(logging.CRITICAL)
            Path(self._address).parent.mkdir(parents=True, exist_ok=True)
        options = FILE_CHANNEL if self._is_file else CHANNEL
        return MilvusClient(uri=self._address, timeout=self._timeout, grpc_options=options)

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        client.close()
        if self._is_file:
            # Closing a client leaves the embedded server open, with its file locked.
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(self._address)


def _create(client: MilvusClient, *, name: str, dimensions: int, timeout: float) -> bool:
    """Whether it was not there."""
    if client.has_collection(name, timeout=timeout):
        return False
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("chunk_id", DataType.VARCHAR, max_length=64, is_primary=True)
    schema.add_field("version_key", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimensions)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="AUTOINDEX", metric_type="COSINE")
    try:
        client.create_collection(
            name, schema=schema, index_params=index, consistency_level="Strong", timeout=timeout
        )
    except MilvusException:
        # Another replica may have been quicker.
        if not client.has_collection(name, timeout=timeout):
            raise
        return False
    return True


def _listed(keys: Sequence[int]) -> str:
    """Only numbers that we made ever enter a filter."""
    return f"[{', '.join(str(int(key)) for key in keys)}]"


def _contents(client: MilvusClient, name: str, timeout: float) -> Iterator[tuple[str, int]]:
    pages: Any = client.query_iterator(
        name,
        batch_size=5_000,
        filter="",
        output_fields=["chunk_id", "version_key"],
        timeout=timeout,
        consistency_level="Strong",
    )
    try:
        while page := pages.next():
            for row in page:
                yield row["chunk_id"], row["version_key"]
    finally:
        pages.close()


def _found(hit: Any) -> Found:
    return Found(hit["chunk_id"], hit["entity"]["version_key"], float(hit["distance"]))
