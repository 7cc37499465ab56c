"""Versions that wait together share a call; none gets another's vectors or another's fault."""

import asyncio
from collections.abc import Sequence

import pytest

from services.embedder.adapters.batching import MAX_TEXTS, PassageBatcher
from services.embedder.adapters.model import Embedded, Embedding
from tidemill.api.common.v1 import EmbeddingModel
from tidemill.faults import Fault, Reason
from tidemill.modelserver.client import ModelServer

MODEL = EmbeddingModel(name="toy", version="v1", dimensions=1)


class Recording(Embedding):
    """Embeds a text as its own bytes; refuses a call that holds "bad", hangs at "slow"."""

    def __init__(self) -> None:
        super().__init__(ModelServer("127.0.0.1:1"))
        self.calls: list[list[str]] = []

    async def embed(self, texts: Sequence[str], *, timeout: float) -> Embedded:
        self.calls.append(list(texts))
        await asyncio.sleep(0.01 if "slow" not in texts else 60)
        if "bad" in texts:
            raise Fault(Reason.INVALID_ARGUMENT)
        return Embedded([text.encode() for text in texts], MODEL)


def batcher(embedding: Embedding) -> PassageBatcher:
    return PassageBatcher(embedding, batch_seconds=1.0, version_seconds=0.5)


async def test_versions_that_wait_together_share_a_call_and_keep_their_own_vectors() -> None:
    embedding = Recording()
    passages = batcher(embedding)
    versions = [[f"{n} a", f"{n} b"] for n in range(10)]
    found = await asyncio.gather(*(passages.embed(version) for version in versions))
    assert len(embedding.calls) == 1
    for version, embedded in zip(versions, found, strict=True):
        assert (embedded.vectors, embedded.model) == ([t.encode() for t in version], MODEL)


async def test_a_call_is_bounded_but_for_a_version_that_is_larger() -> None:
    embedding = Recording()
    passages = batcher(embedding)
    sizes = [MAX_TEXTS - 1, 2, 3 * MAX_TEXTS, 1, 1]
    await asyncio.gather(*(passages.embed(["text"] * size) for size in sizes))
    assert [len(call) for call in embedding.calls] == [MAX_TEXTS - 1, 2, 3 * MAX_TEXTS, 2]


async def test_a_version_that_is_refused_is_refused_alone() -> None:
    passages = batcher(Recording())
    versions = [["a"], ["bad"], ["c"]]
    found = await asyncio.gather(*map(passages.embed, versions), return_exceptions=True)
    assert isinstance(found[1], Fault)
    assert found[1].reason is Reason.INVALID_ARGUMENT
    assert [f.vectors for f in (found[0], found[2]) if isinstance(f, Embedded)] == [[b"a"], [b"c"]]


async def test_a_version_that_hangs_ends_in_time_and_the_next_goes_on() -> None:
    passages = batcher(Recording())
    slow = asyncio.create_task(passages.embed(["slow"] * MAX_TEXTS))
    after = asyncio.create_task(passages.embed(["a"]))
    with pytest.raises(TimeoutError):
        await slow
    assert (await after).vectors == [b"a"]
