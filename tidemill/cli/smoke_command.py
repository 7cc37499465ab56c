"""tidemill smoke: one document, one answer and one piece of feedback through a running mesh."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import typer

from tidemill.api.events.v1 import FeedbackSubmitted
from tidemill.api.inference.v1 import GetAnswerRequest, InferenceServiceStub
from tidemill.api.ingest.v1 import DOCUMENT_STATE_INDEXED
from tidemill.api.monitor.v1 import GetUsageRequest, MonitorServiceStub
from tidemill.api.trainer.v1 import GetTriggerRequest, TrainerServiceStub
from tidemill.cli.context import JSON_OPTION, Context, open_context, run
from tidemill.cli.output import CommandFailed
from tidemill.cli.use_commands import find_document
from tidemill.client import Answer, Client
from tidemill.rpc import call

TENANT = "tidemill-smoke"
STEP_SECONDS = 120.0
RPC_SECONDS = 10.0
POLL_SECONDS = 0.3
WORDS = ("amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet", "heron")


class Smoke:
    """The steps, each with its own proof; seconds by step."""

    def __init__(self, context: Context, client: Client, seconds: float) -> None:
        self._context = context
        self._client = client
        self._limit = seconds
        self._code = f"{secrets.choice(WORDS)}-{secrets.token_hex(3)}"
        self._document = f"smoke/{self._code}"
        self.seconds: dict[str, float] = {}

    async def run(self) -> None:
        judged, answers = await self._judged(), await self._answers()
        async with self._step("document"):
            await self._submit()
        try:
            async with self._step("answer"):
                answer = await self._ask()
            async with self._step("feedback"):
                await self._judge(answer)
                await self._until("feedback", self._judged, above=judged)
            async with self._step("usage"):
                await self._until("usage", self._answers, above=answers)
        finally:
            await self._client.withdraw_document(self._document)

    async def _submit(self) -> None:
        text = f"# Berth {self._code}\n\nThe berth {self._code} is reserved for the survey boat.\n"
        await self._client.submit_document(self._document, "text/markdown", text.encode())

        async def indexed() -> bool:
            found = await find_document(self._client, self._document)
            if found is not None and found.rejection_reason:
                raise CommandFailed("DOCUMENTS_REJECTED", found.rejection_reason)
            return found is not None and found.state == DOCUMENT_STATE_INDEXED

        await self._wait("document", indexed)

    async def _ask(self) -> Answer:
        """The document must have been found; what a small model makes of it is not the point."""
        answer = await self._client.ask(f"What is the berth {self._code} reserved for?")
        if answer.completed.refusal_reason == "NO_RELEVANT_DOCUMENT":
            raise CommandFailed("SMOKE_FAILED", "answer: the search did not find the document")
        stub = InferenceServiceStub(self._client.channels.to("inference"))
        request = GetAnswerRequest(answer_id=answer.answer_id)
        await call(stub.GetAnswer, request, token=self._client.token, timeout=RPC_SECONDS)
        return answer

    async def _judge(self, answer: Answer) -> None:
        # A thumb down teaches nothing by itself: smoke never makes the trainer train.
        feedback = FeedbackSubmitted(answer_id=answer.answer_id, thumb_up=False)
        await self._client.submit_feedback(feedback, traceparent=answer.traceparent)

    async def _judged(self) -> int:
        """Feedback that the trainer has joined with its answer."""
        stub = TrainerServiceStub(self._client.channels.to("trainer"))
        token = self._client.token
        told = await call(stub.GetTrigger, GetTriggerRequest(), token=token, timeout=RPC_SECONDS)
        skipped: dict[str, int] = dict(told.excluded_feedback)
        return int(told.pending_feedback) + sum(skipped.values())

    async def _answers(self) -> int:
        stub = MonitorServiceStub(self._client.channels.to("monitor"))
        token = self._client.token
        told = await call(stub.GetUsage, GetUsageRequest(), token=token, timeout=RPC_SECONDS)
        return sum(release.answers for release in told.releases)

    async def _until(self, step: str, count: Callable[[], Awaitable[int]], *, above: int) -> None:
        async def risen() -> bool:
            return await count() > above

        await self._wait(step, risen)

    async def _wait(self, step: str, done: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + self._limit
        while not await done():
            if time.monotonic() > deadline:
                hint = f"{step}: not there after {self._limit:.0f} s"
                raise CommandFailed("SMOKE_FAILED", hint, facts={"seconds": self.seconds})
            await asyncio.sleep(POLL_SECONDS)

    @asynccontextmanager
    async def _step(self, name: str) -> AsyncIterator[None]:
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 2)
        self._context.output.note(f"  passed  {name}  {self.seconds[name]:.1f} s")


def smoke(
    timeout: float = typer.Option(STEP_SECONDS, help="Seconds that one step may take."),
    json_mode: bool = JSON_OPTION,
) -> None:
    """Prove a running mesh: a document, an answer from it, feedback that reaches the trainer."""
    context = open_context(TENANT, json_mode)

    async def work() -> None:
        async with context.client() as client:
            proof = Smoke(context, client, timeout)
            await proof.run()
        context.output.document({"passed": True, "seconds": proof.seconds})
        context.output.line("Passed. Next: tidemill submit PATH, tidemill ask")

    run(context, work())
