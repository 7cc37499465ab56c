"""Feedback over Kafka passes the rules of the RPC, and its sender may ask what became of it."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from sqlalchemy import delete

from services.inference.adapters.release_book import ReleaseBook
from services.inference.consumer import subscribe
from services.inference.handlers.feedback import FeedbackTaking
from tests.unit.inference.conftest import House
from tests.unit.inference.test_feedback import answered, give
from tests.unit.retriever.world import ManualClock
from tidemill import topics
from tidemill.api.common.v1 import (
    SUBMISSION_STATE_ACCEPTED,
    SUBMISSION_STATE_DEAD_LETTERED,
    SUBMISSION_STATE_REJECTED,
    Submission,
)
from tidemill.api.events.v1 import (
    Correction,
    FeedbackRecorded,
    FeedbackSubmitted,
    Preference,
    Thumb,
)
from tidemill.api.inference.v1 import GetSubmissionRequest, RecordFeedbackRequest
from tidemill.bus.envelope import SUBJECT, TOKEN, Record, event_headers, source_of
from tidemill.bus.tables import InboxRow, OutboxRow
from tidemill.faults import Fault, Reason
from tidemill.rpc import call
from tidemill.security.keys import load_or_create_key
from tidemill.security.tokens import EVENT_AUDIENCE, Identity
from tidemill.topics import Topic
from tidemill.wake import Wake

SAID = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=3)
SOURCE = source_of("portal")


@dataclass
class Log:
    """Hands inference the records that a producer wrote."""

    house: House
    offset: int = 0
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        runtime = self.house.runtime
        tracer = runtime.telemetry.tracer
        taking = FeedbackTaking(runtime.database, runtime.bus, runtime.clock, tracer)
        book = ReleaseBook(runtime.database, runtime.clock)
        subscribe(runtime.bus, book, taking, Wake())

    async def put(
        self,
        message: Message,
        topic: Topic[Any] = topics.FEEDBACK_SUBMITTED,
        tenant: str = "harbor",
        event_id: str = "",
        subject: str = "portal",
    ) -> str:
        """The event's id, once inference is done with it."""
        self.offset += 1
        headers = event_headers(topic, event_id or f"e-{self.offset}", "portal", SAID)
        key = load_or_create_key(self.house.runtime.settings.home / "keys")
        headers[TOKEN] = Identity(key, subject, ManualClock(SAID)).mint(
            tenant, ["feedback:write"], audience=EVENT_AUDIENCE
        )
        place, value = f"{tenant}/a".encode(), message.SerializeToString()
        record = Record(topic.name, 0, self.offset, place, value, headers, SAID)
        await self.deliver(record)
        return record.event_id

    async def deliver(self, record: Record) -> None:
        self.records.append(record)
        for subscription in self.house.runtime.bus._subscriptions:
            if subscription.consumer.topic.name == record.topic:
                await subscription.dispatcher.put([record])
                await subscription.dispatcher.settled()

    async def again(self) -> None:
        """Every record at a new offset, with an empty inbox."""
        await self.house.runtime.database.write(lambda session: session.execute(delete(InboxRow)))
        for record in list(self.records):
            self.offset += 1
            await self.deliver(replace(record, offset=self.offset))

    async def became(self, event_id: str, tenant: str = "harbor") -> Submission:
        request = GetSubmissionRequest(source=SOURCE, event_id=event_id)
        token = self.house.token(tenant)
        response = await call(self.house.stub.GetSubmission, request, token=token, timeout=5)
        found: Submission = response.submission
        return found


@pytest.fixture
def log(house: House) -> Log:
    return Log(house)


def without_id(event: FeedbackRecorded) -> FeedbackRecorded:
    event.ClearField("feedback_id")
    event.ClearField("recorded_time")
    return event


async def test_each_kind_becomes_the_event_that_the_call_gives(house: House, log: Log) -> None:
    first, second = await answered(house), await answered(house)
    kinds: list[dict[str, Any]] = [
        {"thumb_up": False},
        {"correction": " Ask anna.berg@example.com ", "document_ids": ["hr/annual-leave"]},
        {"unanswerable": True},
        {"preferred_answer_id": second},
        {"preferred_text": "27 days, says anna.berg@example.com"},
    ]
    for kind in kinds:
        await give(house, first, **kind)
        await log.put(FeedbackSubmitted(answer_id=first, **kind))
    events = await house.events(topics.FEEDBACK_RECORDED)
    assert all(event.recorded_time.ToDatetime(tzinfo=UTC) == SAID for event in events[1::2])
    called, submitted = map(without_id, events[::2]), map(without_id, events[1::2])
    assert list(called) == list(submitted)
    assert events[3].correction.text == "Ask [EMAIL]"


async def test_the_fact_names_the_subject_of_the_token_and_joins_the_answers_trace(
    house: House, log: Log
) -> None:
    started, *_ = await house.ask()
    await log.put(FeedbackSubmitted(answer_id=started.started.answer_id, thumb_up=True))
    rows = await house.runtime.database.read(
        lambda session: [json.loads(row.headers) for row in session.query(OutboxRow)]
    )
    fact = rows[-1]
    assert fact[SUBJECT] == "portal"
    assert fact["traceparent"].split("-")[1] == started.started.traceparent.split("-")[1]


async def test_what_the_call_refuses_is_rejected_with_its_reason(house: House, log: Log) -> None:
    answer, other = await answered(house), await answered(house, "When does leave expire?")
    wrong = {
        Reason.ANSWER_NOT_FOUND: FeedbackSubmitted(answer_id="ans_unknown", thumb_up=True),
        Reason.INVALID_ARGUMENT: FeedbackSubmitted(answer_id=answer, correction="x" * 2_001),
    }
    for reason, message in wrong.items():
        found = await log.became(await log.put(message))
        assert (found.state, found.reason) == (SUBMISSION_STATE_REJECTED, reason.value)
    preferred = FeedbackSubmitted(answer_id=answer, preferred_answer_id=other)
    assert (await log.became(await log.put(preferred))).reason == Reason.INVALID_ARGUMENT.value
    assert await house.events(topics.FEEDBACK_RECORDED) == []


async def test_an_answer_of_another_tenant_is_unknown(house: House, log: Log) -> None:
    message = FeedbackSubmitted(answer_id=await answered(house), thumb_up=True)
    event_id = await log.put(message, tenant="quay")
    assert (await log.became(event_id, "quay")).reason == Reason.ANSWER_NOT_FOUND.value
    with pytest.raises(Fault) as caught:
        await log.became(event_id)
    assert caught.value.reason is Reason.NOT_FOUND


async def test_one_request_id_is_one_feedback_over_both_doors(house: House, log: Log) -> None:
    answer = await answered(house)
    await give(house, answer, thumb_up=True, request_id="req-1")
    same = FeedbackSubmitted(answer_id=answer, thumb_up=True, request_id="req-1")
    assert (await log.became(await log.put(same))).state == SUBMISSION_STATE_ACCEPTED
    changed = FeedbackSubmitted(answer_id=answer, thumb_up=False, request_id="req-1")
    assert (await log.became(await log.put(changed))).reason == Reason.REQUEST_ID_REUSED.value
    assert len(await house.events(topics.FEEDBACK_RECORDED)) == 1


async def test_a_submission_is_one_feedback_also_when_the_inbox_has_forgotten_it(
    house: House, log: Log
) -> None:
    answer = await answered(house)
    await log.put(FeedbackSubmitted(answer_id=answer, thumb_up=True))
    old = FeedbackRecorded(feedback_id="mine-1", answer_id=answer, thumb=Thumb(up=True))
    await log.put(old, topics.FEEDBACK_RECORDED)
    before = await house.events(topics.FEEDBACK_RECORDED)
    await log.again()
    assert await house.events(topics.FEEDBACK_RECORDED) == before
    assert len(before) == 2


async def test_what_outsiders_write_to_the_facts_is_a_submission(house: House, log: Log) -> None:
    answer = await answered(house)
    old = FeedbackRecorded(
        feedback_id="mine-1",
        answer_id=answer,
        correction=Correction(text="Ask anna.berg@example.com"),
    )
    old.recorded_time.FromDatetime(datetime(2126, 1, 1, tzinfo=UTC))
    await log.put(old, topics.FEEDBACK_RECORDED)
    (fact,) = await house.events(topics.FEEDBACK_RECORDED)
    assert (fact.feedback_id, fact.correction.text) == ("mine-1", "Ask [EMAIL]")
    assert fact.recorded_time.ToDatetime(tzinfo=UTC) == SAID
    empty = FeedbackRecorded(feedback_id="mine-2", answer_id=answer, preference=Preference())
    event_id = await log.put(empty, topics.FEEDBACK_RECORDED)
    assert (await log.became(event_id)).reason == Reason.INVALID_ARGUMENT.value


async def test_the_facts_of_inference_are_no_submissions(house: House, log: Log) -> None:
    fact = FeedbackRecorded(feedback_id="fb-1", answer_id=await answered(house))
    fact.thumb.up = True
    event_id = await log.put(fact, topics.FEEDBACK_RECORDED, subject="service:inference")
    assert await house.events(topics.FEEDBACK_RECORDED) == []
    with pytest.raises(Fault):
        await log.became(event_id)


async def test_a_dead_letter_is_told(house: House, log: Log) -> None:
    # Field 99 is none of the contract's.
    unknown = FeedbackSubmitted.FromString(b"\x98\x06\x01")
    found = await log.became(await log.put(unknown))
    assert (found.state, found.reason) == (SUBMISSION_STATE_DEAD_LETTERED, "SCHEMA_INVALID")
    assert found.topic == topics.FEEDBACK_SUBMITTED.name


def test_both_doors_have_the_same_fields() -> None:
    called = RecordFeedbackRequest.DESCRIPTOR.fields_by_name
    submitted = FeedbackSubmitted.DESCRIPTOR.fields_by_name
    assert {n: f.type for n, f in called.items()} == {n: f.type for n, f in submitted.items()}
