"""Vectors are labelled with the model that made them, and faults say whose fault it is."""

from collections.abc import Sequence

import numpy as np
import pytest

from services.embedder.adapters.model import Embedded, Embedding, fault_of
from services.embedder.handlers import embed_queries, to_event
from tidemill.api.common.v1 import Chunk
from tidemill.api.common.v1 import EmbeddingModel as Model
from tidemill.api.events.v1 import DocumentChunked
from tidemill.faults import Fault, Reason
from tidemill.modelserver.client import EMBED_ROWS, EmbeddingModel, ModelServer, NamedVectors
from tidemill.modelserver.errors import (
    InvalidRequest,
    ModelServerError,
    ModelServerUnavailable,
    ModelStalled,
)


class Exchanged(ModelServer):
    """A model server whose embedder is another one each time; "" for one that does not say it."""

    def __init__(self, names: list[str], asked: Sequence[str] = ()) -> None:
        super().__init__("127.0.0.1:1")
        self._names = names
        self._asked = list(asked)

    async def embedding_model(self, *, timeout: float = 30.0) -> EmbeddingModel:
        return EmbeddingModel("toy", self._asked.pop(0), 3)

    async def _embed(self, texts: list[str], timeout: float) -> NamedVectors:
        name = self._names.pop(0)
        model = EmbeddingModel("toy", name, 3) if name else None
        return NamedVectors(np.array([[1, 0, 0.5]] * len(texts), np.float32), model)


async def test_vectors_are_little_endian_floats_with_their_model() -> None:
    embedded = await Embedding(Exchanged(["v1"])).embed(["a", "b"], timeout=1.0)
    assert embedded.model == Model(name="toy", version="v1", dimensions=3)
    assert embedded.vectors == [np.array([1, 0, 0.5], "<f4").tobytes()] * 2


async def test_vectors_of_two_models_are_never_mixed() -> None:
    with pytest.raises(Fault) as fault:
        await Embedding(Exchanged(["v1", "v2"])).embed(["a"] * (EMBED_ROWS + 1), timeout=1.0)
    assert fault.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert fault.value.retryable


async def test_a_server_that_does_not_name_its_model_is_asked_before_and_after() -> None:
    embedded = await Embedding(Exchanged(["", ""], ["v1", "v1"])).embed(["a"], timeout=1.0)
    assert embedded.model.version == "v1"
    with pytest.raises(Fault) as fault:
        await Embedding(Exchanged(["", ""], ["v1", "v2"])).embed(["a"], timeout=1.0)
    assert fault.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert fault.value.retryable


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModelServerUnavailable("MODEL_CRASHED"), Reason.DEPENDENCY_UNAVAILABLE),
        (ModelStalled("DEADLINE_EXCEEDED"), Reason.DEADLINE_EXCEEDED),
        (InvalidRequest("INVALID_REQUEST"), Reason.INVALID_ARGUMENT),
    ],
)
def test_errors_of_the_model_server_keep_their_meaning(
    error: ModelServerError, reason: Reason
) -> None:
    assert fault_of(error).reason is reason


async def test_a_server_that_is_not_there_is_a_fault_within_the_deadline() -> None:
    async with ModelServer("127.0.0.1:1") as server:
        with pytest.raises(Fault) as fault:
            await embed_queries(Embedding(server), ["text"], 5.0)
    assert fault.value.retryable


def test_the_event_pairs_each_chunk_with_its_vector_in_order() -> None:
    chunks = [Chunk(chunk_id=str(i), ordinal=i, text=f"text {i}") for i in range(3)]
    message = DocumentChunked(
        tenant_id="acme", document_id="d", version=7, title="t", source_uri="u", chunks=chunks
    )
    model = Model(name="toy", version="v1", dimensions=1)
    event = to_event(message, Embedded([b"0000", b"1111", b"2222"], model))
    assert (event.tenant_id, event.document_id, event.version) == ("acme", "d", 7)
    assert (event.title, event.source_uri, event.embedding_model) == ("t", "u", model)
    assert [(e.chunk, e.vector) for e in event.chunks] == list(
        zip(chunks, [b"0000", b"1111", b"2222"], strict=True)
    )
