"""The outermost clients of other people's parts: Milvus, Triton, and the reading child process."""

import asyncio
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from pymilvus import MilvusException
from tritonclient.utils import InferenceServerException, deserialize_bytes_tensor

from services.ingest.adapters.reader_process import LENGTH, answer
from tests.simulation.loop import pass_time, running_loop

DIMENSIONS = 8
UNREACHABLE = 2
"""Milvus' code for a server that cannot be reached."""


@dataclass
class Stores:
    """Milvus' collections: chunk id to (version key, vector); they outlive every client."""

    collections: dict[str, dict[str, tuple[int, Any]]] = field(default_factory=dict)
    milvus_up: bool = True
    triton_up: bool = True


def the_stores() -> Stores:
    stores: Stores = running_loop().stores
    return stores


class Milvus:
    """Stands for pymilvus.MilvusClient. A call may fail before or after it did its work."""

    def __init__(self, uri: str, timeout: float, grpc_options: object) -> None:
        self._stores = the_stores()

    def _before(self) -> None:
        loop = running_loop()
        if not self._stores.milvus_up or loop.latency.random() < loop.faults.refused:
            raise MilvusException(UNREACHABLE, "unreachable")

    def _after(self, call: str, name: str) -> None:
        loop = running_loop()
        loop.trace("milvus", call, name[:12])
        if loop.latency.random() < loop.faults.lost_reply:
            raise MilvusException(UNREACHABLE, "reply lost")

    def has_collection(self, name: str, timeout: float) -> bool:
        self._before()
        return name in self._stores.collections

    def create_schema(self, **_: Any) -> Any:
        return SimpleNamespace(add_field=lambda *_, **__: None)

    def prepare_index_params(self) -> Any:
        return SimpleNamespace(add_index=lambda *_, **__: None)

    def create_collection(self, name: str, **_: Any) -> None:
        self._before()
        self._stores.collections.setdefault(name, {})
        self._after("create", name)

    def load_collection(self, name: str, timeout: float) -> None:
        self._before()

    def upsert(self, name: str, rows: Sequence[dict[str, Any]], timeout: float) -> None:
        self._before()
        collection = self._stores.collections[name]
        for row in rows:
            collection[row["chunk_id"]] = (row["version_key"], row["vector"])
        self._after(f"upsert {len(rows)}", name)

    def delete(self, name: str, filter: str, timeout: float) -> None:
        self._before()
        keys = {int(number) for number in re.findall(r"-?\d+", filter)}
        collection = self._stores.collections[name]
        gone = [chunk for chunk, (key, _) in collection.items() if key in keys]
        for chunk in gone:
            del collection[chunk]
        self._after(f"delete {len(gone)}", name)

    def query_iterator(self, name: str, **_: Any) -> Any:
        self._before()
        rows = [
            {"chunk_id": chunk, "version_key": key}
            for chunk, (key, _) in self._stores.collections[name].items()
        ]
        pages = iter([rows, []] if rows else [[]])
        return SimpleNamespace(next=lambda: next(pages), close=lambda: None)

    def search(self, name: str, data: Sequence[Any], limit: int, **_: Any) -> list[list[Any]]:
        self._before()
        found = self._stores.collections[name].items()
        return [
            sorted(
                (
                    {
                        "chunk_id": chunk,
                        "entity": {"version_key": key},
                        "distance": float(np.dot(vector, wanted)),
                    }
                    for chunk, (key, vector) in found
                ),
                key=lambda hit: (-float(hit["distance"]), str(hit["chunk_id"])),
            )[:limit]
            for wanted in data
        ]

    def close(self) -> None:
        """Nothing is held."""


class Triton:
    """Stands for tritonclient's InferenceServerClient: an embedder that depends on text alone."""

    def __init__(self, address: str, channel_args: object = None) -> None:
        self._stores = the_stores()

    async def _reach(self) -> None:
        await pass_time(0.01)
        loop = running_loop()
        if not self._stores.triton_up or loop.latency.random() < loop.faults.refused:
            raise InferenceServerException("unreachable", status="StatusCode.UNAVAILABLE")

    async def get_model_config(self, name: str, client_timeout: float) -> Any:
        await self._reach()
        parameters = {"model_name": "simulated", "model_version": "1"}
        return SimpleNamespace(
            config=SimpleNamespace(
                parameters={k: SimpleNamespace(string_value=v) for k, v in parameters.items()},
                output=[SimpleNamespace(dims=[DIMENSIONS])],
            )
        )

    async def infer(self, model: str, inputs: Sequence[Any], **_: Any) -> Any:
        await self._reach()
        texts = deserialize_bytes_tensor(inputs[0]._get_content())
        vectors = np.stack([vector_of(bytes(text)) for text in texts])
        named = np.array([[b"simulated", b"1"]] * len(texts), dtype=object)
        return SimpleNamespace(as_numpy={"embedding": vectors, "embedding_model": named}.get)

    async def close(self) -> None:
        await asyncio.sleep(0)


def vector_of(text: bytes) -> Any:
    """A unit vector (DIMENSIONS,) float32."""
    numbers = np.frombuffer(hashlib.sha256(text).digest(), dtype=np.uint8)[:DIMENSIONS]
    vector = numbers.astype(np.float32) - 127.5
    return vector / np.linalg.norm(vector)


class ReadingProcess:
    """Stands for the child process of ingest; what it computes is the real thing."""

    def __init__(self) -> None:
        self.returncode: int | None = None
        self.stdin = self
        self.stdout = self
        self._frames: list[bytes] = []
        self._reply = b""

    def write(self, data: bytes) -> None:
        self._frames.append(data)

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def close(self) -> None:
        """Its pipe."""

    async def readexactly(self, size: int) -> bytes:
        if self._frames:
            await pass_time(0.01)
            _, request, _, content = self._frames
            self._frames = []
            reply = json.dumps(answer_of(request, content)).encode()
            self._reply = LENGTH.pack(len(reply)) + reply
        part, self._reply = self._reply[:size], self._reply[size:]
        return part

    def kill(self) -> None:
        self.returncode = -9

    async def wait(self) -> int:
        await asyncio.sleep(0)
        return self.returncode or 0


def answer_of(request: bytes, content: bytes) -> dict[str, Any]:
    asked = json.loads(request)
    return answer({"source": asked["source"], "limits": asked["limits"]}, content)


async def start_reading(*_: Any, **__: Any) -> ReadingProcess:
    """Stands for asyncio.create_subprocess_exec."""
    await pass_time(0.02)
    return ReadingProcess()
