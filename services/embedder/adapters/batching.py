"""Joins the passages of versions that wait at the same time into one call of the model server.

A call has a price of its own, and so has the question which model is in service.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.embedder.adapters.model import Embedded, Embedding
from tidemill.faults import Fault, Reason

MAX_TEXTS = 64
"""Passages in one call; a version that has more goes by itself."""


@dataclass(frozen=True)
class Waiting:
    """A version's passages and where their vectors go."""

    texts: Sequence[str]
    answer: "asyncio.Future[Embedded]"


class PassageBatcher:
    """One call at a time, so that questions find room beside it; what comes meanwhile goes
    together into the next. batch_seconds: how long the model server may take for one batch of its
    own. version_seconds: for all passages of a version."""

    def __init__(
        self, embedding: Embedding, *, batch_seconds: float, version_seconds: float
    ) -> None:
        self._embedding = embedding
        self._batch_seconds = batch_seconds
        self._version_seconds = version_seconds
        self._waiting: list[Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """One vector a text, in order. Raises Fault, or TimeoutError for a version that takes too
        long once it has its turn."""
        waiting = Waiting(texts, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._worker is None:
            self._worker = asyncio.create_task(self._drain())
        return await waiting.answer

    async def _drain(self) -> None:
        while self._waiting:
            batch = self._taken()
            if batch and not await self._answer(batch) and len(batch) > 1:
                # One of them is refused; the others must not be for it.
                for each in batch:
                    await self._answer([each])
        self._worker = None

    def _taken(self) -> list[Waiting]:
        """The first of those that still wait, and as many of the next as go with it."""
        self._waiting = [each for each in self._waiting if not each.answer.done()]
        taken, texts = self._waiting[:1], sum(len(each.texts) for each in self._waiting[:1])
        for each in self._waiting[1:]:
            texts += len(each.texts)
            if texts > MAX_TEXTS:
                break
            taken.append(each)
        del self._waiting[: len(taken)]
        return taken

    async def _answer(self, batch: Sequence[Waiting]) -> bool:
        """False, and nobody has an answer yet, when a text of several versions is refused."""
        texts = [text for each in batch for text in each.texts]
        try:
            async with asyncio.timeout(self._version_seconds):
                embedded = await self._embedding.embed(texts, timeout=self._batch_seconds)
        except Exception as error:
            if len(batch) > 1 and is_refusal(error):
                return False
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return True
        start = 0
        for each in batch:
            part = embedded.vectors[start : start + len(each.texts)]
            start += len(each.texts)
            if not each.answer.done():
                each.answer.set_result(Embedded(part, embedded.model))
        return True


def is_refusal(error: Exception) -> bool:
    return isinstance(error, Fault) and error.reason is Reason.INVALID_ARGUMENT
