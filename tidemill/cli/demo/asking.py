"""Asking many questions at a bounded pace, and what came back."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tidemill.cli.demo.handbook import Question
from tidemill.client import Answer, Client
from tidemill.faults import Fault, Reason

CONCURRENCY = 8
ATTEMPTS = 4
RETRY_SECONDS = 1.0

Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Asked:
    """A question and its answer."""

    question: Question
    answer: Answer

    @property
    def text(self) -> str:
        return self.answer.completed.text

    @property
    def refused(self) -> bool:
        return self.answer.completed.refused


async def ask_all(
    client: Client, questions: Sequence[Question], tick: Tick, *, user_prefix: str
) -> list[Asked]:
    """Ask every question, each as its own user, CONCURRENCY at a time; order is kept."""
    gate, done = asyncio.Semaphore(CONCURRENCY), 0

    async def one(question: Question) -> Asked:
        nonlocal done
        async with gate:
            answer = await ask_patiently(client, question, f"{user_prefix}-{question.question_id}")
        done += 1
        tick(done, len(questions))
        return Asked(question, answer)

    return list(await asyncio.gather(*(one(question) for question in questions)))


async def ask_patiently(client: Client, question: Question, user: str) -> Answer:
    """Ask; a busy or restarting part is asked again a few times."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await client.ask(question.text, end_user_id=user)
        except Fault as fault:
            if not fault.retryable or attempt == ATTEMPTS:
                raise
            await asyncio.sleep(RETRY_SECONDS * attempt)
    raise Fault(Reason.DEPENDENCY_UNAVAILABLE)
