"""Vectors from the model server, together with the identity of the model that made them."""

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.api.common.v1 import EmbeddingModel
from tidemill.faults import Fault, Reason
from tidemill.modelserver import client
from tidemill.modelserver.client import ModelServer, NamedVectors
from tidemill.modelserver.errors import OVERLOADED, InvalidRequest, ModelServerError, ModelStalled

IDENTITY_SECONDS = 5.0


@dataclass(frozen=True)
class Embedded:
    """vectors: little-endian 32-bit floats, one a text, in order."""

    vectors: list[bytes]
    model: EmbeddingModel


class Embedding:
    """Embeds, and never labels a vector with a model that did not make it."""

    def __init__(self, server: ModelServer) -> None:
        self._server = server

    async def embed(self, texts: Sequence[str], *, timeout: float) -> Embedded:
        """timeout: seconds a batch. Raises Fault(DEPENDENCY_UNAVAILABLE | DEADLINE_EXCEEDED)."""
        try:
            named = await self._embed(texts, timeout)
        except ModelServerError as error:
            raise fault_of(error) from error
        vectors, model = named.vectors, named.model
        if model is None or vectors.shape != (len(texts), model.dimensions):
            raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="model_server")
        rows = [row.tobytes() for row in vectors.astype("<f4", copy=False)]
        return Embedded(rows, to_message(model))

    async def _embed(self, texts: Sequence[str], timeout: float) -> NamedVectors:
        named = await self._server.embed_named(texts, timeout=timeout)
        if named.model is not None:
            return named
        # This server does not say which model it was, and the model may be exchanged meanwhile.
        before = await self._server.embedding_model(timeout=IDENTITY_SECONDS)
        named = await self._server.embed_named(texts, timeout=timeout)
        after = await self._server.embedding_model(timeout=IDENTITY_SECONDS)
        return NamedVectors(named.vectors, after if before == after else None)


def fault_of(error: ModelServerError) -> Fault:
    if isinstance(error, ModelStalled):
        return Fault(Reason.DEADLINE_EXCEEDED, dependency="model_server", cause=error.reason)
    if isinstance(error, InvalidRequest):
        return Fault(Reason.INVALID_ARGUMENT, dependency="model_server", cause=error.reason)
    if error.reason == OVERLOADED:
        return Fault(Reason.OVERLOADED, dependency="model_server")
    return Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="model_server", cause=error.reason)


def to_message(model: client.EmbeddingModel) -> EmbeddingModel:
    return EmbeddingModel(name=model.name, version=model.version, dimensions=model.dimensions)
