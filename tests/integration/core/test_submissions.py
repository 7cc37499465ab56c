"""Facts and submissions side by side on one topic, and what became of a submission."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.integration.core.test_failing_handlers import QUICK, identity_of
from tidemill import topics
from tidemill.api.common.v1 import (
    SUBMISSION_STATE_ACCEPTED,
    SUBMISSION_STATE_DEAD_LETTERED,
    SUBMISSION_STATE_RECEIVED,
    SUBMISSION_STATE_UNSPECIFIED,
)
from tidemill.api.events.v1 import FeedbackRecorded, Thumb
from tidemill.bus import Delivery
from tidemill.bus.dead_letters.actions import list_dead_letters, replay_dead_letters
from tidemill.bus.envelope import SUBJECT, source_of
from tidemill.bus.submissions import get_submission
from tidemill.faults import Fault, Reason
from tidemill.runtime import Runtime

TOPIC = topics.FEEDBACK_RECORDED


@dataclass
class Taker:
    """A consumer of the topic that keeps who sent what, and fails while it is told to."""

    submissions: bool
    fault: Fault | None = None
    taken: list[tuple[str, str]] = field(default_factory=list)

    async def __call__(self, message: FeedbackRecorded, delivery: Delivery) -> None:
        if self.fault is not None:
            raise self.fault
        await delivery.apply(lambda unit: None)
        self.taken.append((message.feedback_id, delivery.subject))

    @asynccontextmanager
    async def lifespan(self, runtime: Runtime) -> AsyncIterator[None]:
        runtime.bus.subscribe(TOPIC, self, policy=QUICK, submissions=self.submissions)
        yield


def thumb(name: str) -> FeedbackRecorded:
    return FeedbackRecorded(feedback_id=name, answer_id="ans", thumb=Thumb(up=True))


async def put(outside: Any, name: str, *, subject: str) -> str:
    token = outside.mint(outside.settings, "acme", "feedback:write", events=True, subject=subject)
    event_id: str = await outside.publish(
        TOPIC, "ans", thumb(name), event_id=name, tidemill_token=token, tidemill_subject="asker"
    )
    return event_id


async def became(runtime: Runtime, event_id: str, tenant: str = "acme") -> tuple[int, str]:
    """State and reason; without a state when nothing is known."""
    source = source_of("outside")
    try:
        found = await get_submission(runtime.database, "inference", tenant, source, event_id)
    except Fault as fault:
        return SUBMISSION_STATE_UNSPECIFIED, fault.reason.value
    return found.state, found.reason


async def test_only_the_owners_records_are_facts_and_only_the_others_are_submissions(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    facts, submissions = Taker(submissions=False), Taker(submissions=True)
    async with (
        run_service("trainer", outside.settings, facts.lifespan),
        run_service("inference", outside.settings, submissions.lifespan) as runtime,
    ):
        await put(outside, "said", subject="portal")
        await put(outside, "recorded", subject="service:inference")
        await put(outside, "forged", subject="service:trainer")

        async def taken() -> bool:
            return len(facts.taken) >= 1 and len(submissions.taken) >= 2

        await eventually(taken)
        assert await became(runtime, "said") == (SUBMISSION_STATE_ACCEPTED, "")
        unknown = (SUBMISSION_STATE_UNSPECIFIED, Reason.NOT_FOUND.value)
        assert await became(runtime, "recorded") == unknown
        assert await became(runtime, "said", tenant="other") == unknown
    assert facts.taken == [("recorded", "service:inference")]
    assert submissions.taken == [("said", "portal"), ("forged", "service:trainer")]


async def test_a_dead_letter_is_replayed_under_its_senders_name(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    wrong = Fault(Reason.INVALID_ARGUMENT)
    facts, submissions = Taker(False, wrong), Taker(True, wrong)
    async with (
        run_service("trainer", outside.settings, facts.lifespan),
        run_service("inference", outside.settings, submissions.lifespan) as runtime,
    ):
        await put(outside, "said", subject="portal")
        await put(outside, "recorded", subject="service:inference")

        async def dead() -> bool:
            return len(await list_dead_letters(outside.bootstrap)) == 2

        await eventually(dead)
        dead_lettered = (SUBMISSION_STATE_DEAD_LETTERED, wrong.reason.value)
        assert await became(runtime, "said") == dead_lettered
        facts.fault = submissions.fault = None
        await replay_dead_letters(outside.bootstrap, identity_of(outside))

        async def taken() -> bool:
            return bool(facts.taken and submissions.taken)

        await eventually(taken)
        assert await became(runtime, "said") == (SUBMISSION_STATE_ACCEPTED, "")
        records = await outside.read(TOPIC.name)
    assert facts.taken == [("recorded", "service:inference")]
    assert submissions.taken == [("said", "portal")]
    assert {dict(record.headers)[SUBJECT] for record in records} == {b"asker"}


async def test_an_event_that_waits_is_told_with_what_it_waits_for(
    outside: Any, run_service: Any, eventually: Callable[..., Any]
) -> None:
    away = Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="database")
    submissions = Taker(submissions=True, fault=away)
    async with run_service("inference", outside.settings, submissions.lifespan) as runtime:
        await put(outside, "said", subject="portal")

        async def is_told(*wanted: Any) -> bool:
            return await became(runtime, "said") == wanted

        await eventually(lambda: is_told(SUBMISSION_STATE_RECEIVED, away.reason.value))
        submissions.fault = None
        await eventually(lambda: is_told(SUBMISSION_STATE_ACCEPTED, ""))
    assert submissions.taken == [("said", "portal")]
