"""What may happen to a mesh, as events with their causes in place, and how Kafka may deliver it."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message

from tests.senders import subject_of
from tests.unit.retriever.world import embedded
from tidemill import topics
from tidemill.api.events import v1 as events
from tidemill.bus.envelope import TOKEN, Record, event_headers
from tidemill.security.tokens import EVENT_AUDIENCE, Identity
from tidemill.topics import Topic

START = datetime(2026, 11, 22, 9, tzinfo=UTC)
RELEASES = ("base", "rel_a", "rel_b")
MAX_COPIES = 5
WINDOW = 1_000
PASSAGES = ("Leave: everyone gets 27 days of annual leave.", "Offices: the harbour opens at 07:45.")
PROMPT = "<|im_start|>user\n[1] {}\n[2] {}\n\nQuestion: {}?<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Event:
    """One event as its producer wrote it."""

    topic: Topic[Any]
    tenant_id: str
    aggregate_id: str
    message: Message
    time: datetime
    number: int

    def record(self, identity: Identity) -> Record:
        headers = event_headers(self.topic, f"event-{self.number}", "history", self.time)
        if self.topic.write_scope:
            headers[TOKEN] = identity.mint(
                self.tenant_id,
                [self.topic.write_scope],
                audience=EVENT_AUDIENCE,
                lifetime=timedelta(days=1),
                subject=subject_of(self.topic),
            )
        return Record(
            topic=self.topic.name,
            partition=0,
            offset=self.number,
            key=f"{self.tenant_id}/{self.aggregate_id}".encode(),
            value=self.message.SerializeToString(deterministic=True),
            headers=headers,
            time=self.time,
        )


@dataclass
class Teller:
    """Makes up a history of one tenant; the seed decides it all."""

    tenant_id: str
    dice: random.Random
    told: int = 0

    def tell(self, length: int) -> list[Event]:
        """About `length` events in an order in which they may have happened."""
        return [event for _ in range(length) for event in self._something()]

    def _something(self) -> list[Event]:
        kinds = (self._answer, self._submission, self._version, self._release, self._adapter)
        return list(self.dice.choices(kinds, weights=(5, 6, 4, 2, 1))[0]())

    def _event(self, topic: Topic[Any], aggregate: str, message: Message) -> Event:
        self.told += 1
        return Event(topic, self.tenant_id, aggregate, message, self._now(), self.told)

    def _now(self) -> datetime:
        return START + timedelta(seconds=self.told)

    def _answer(self) -> Iterator[Event]:
        """An answer, and what its user says to it."""
        name = f"ans-{self.told}"
        message = events.AnswerGenerated(
            tenant_id=self.tenant_id,
            answer_id=name,
            user_hash=f"user-{self.dice.randrange(3)}",
            prompt=PROMPT.format(*PASSAGES, f"what of {self.dice.randrange(4)}"),
            completion=self.dice.choice(["27 days [1]", "at 07:45 [2]", "some days"]),
            release_id=self.dice.choice(RELEASES),
            refused=self.dice.random() < 0.2,
            finish_reason=self.dice.choice(["stop", "stop", "error"]),
            duration_seconds=self.dice.random() * 3,
            purpose=self.dice.choice([events.PURPOSE_PRODUCTION] * 4 + [events.PURPOSE_EVALUATION]),
        )
        for marker, document in enumerate(("leave", "offices"), 1):
            message.chunks.add(marker=marker, chunk_id=f"c{marker}", document_id=document)
        message.usage.input_tokens = self.dice.randrange(500)
        message.usage.output_tokens = self.dice.randrange(50)
        message.usage.cost_micros = self.dice.randrange(1_000)
        message.answered_time.FromDatetime(self._now())
        yield self._event(topics.ANSWERS_GENERATED, name, message)
        for number in range(self.dice.randrange(3)):
            yield self._feedback(name, number)

    def _feedback(self, answer_id: str, number: int) -> Event:
        """The first is a thumb; the second may change it."""
        name = f"fb-{answer_id}-{number}"
        message = events.FeedbackRecorded(feedback_id=name, answer_id=answer_id)
        if number == 0:
            message.thumb.up = self.dice.random() < 0.6
        elif (draw := self.dice.random()) < 0.5:
            message.thumb.up = draw < 0.25
        elif draw < 0.75:
            message.correction.text = "27 days of annual leave"
            message.correction.document_ids.append("leave")
        else:
            message.preference.preferred_answer_id = f"ans-{self.dice.randrange(self.told + 1)}"
        message.recorded_time.FromDatetime(self._now())
        return self._event(topics.FEEDBACK_RECORDED, name, message)

    def _document(self) -> str:
        return f"doc-{self.dice.randrange(3)}"

    def _submission(self) -> Iterator[Event]:
        """A document is handed in, or withdrawn."""
        name = self._document()
        if self.dice.random() < 0.25:
            gone = events.DocumentWithdrawn(document_id=name)
            yield self._event(topics.DOCUMENTS_WITHDRAWN, name, gone)
            return
        content = f"Text {self.dice.randrange(3)} of {name}.".encode()
        message = events.DocumentSubmitted(
            document_id=name, media_type="text/plain", content=content, title=name
        )
        yield self._event(topics.DOCUMENTS_SUBMITTED, name, message)

    def _version(self) -> Iterator[Event]:
        """A version reaches the index, or retires the document there."""
        name, version = self._document(), self.told + 1
        if self.dice.random() < 0.25:
            gone = events.DocumentRetired(
                tenant_id=self.tenant_id, document_id=name, version=version
            )
            yield self._event(topics.DOCUMENTS_RETIRED, name, gone)
            return
        texts = [f"{name} {version} part {part}" for part in range(1 + self.dice.randrange(3))]
        message = embedded(self.tenant_id, name, version, texts)
        yield self._event(topics.CHUNKS_EMBEDDED, name, message)
        indexed = events.DocumentIndexed(
            tenant_id=self.tenant_id, document_id=name, version=version, chunk_count=len(texts)
        )
        yield self._event(topics.DOCUMENTS_INDEXED, name, indexed)

    def _release(self) -> Iterator[Event]:
        states = (
            events.RELEASE_STATE_PROPOSED,
            events.RELEASE_STATE_CANARY,
            events.RELEASE_STATE_PROMOTED,
            events.RELEASE_STATE_REJECTED,
        )
        name = self.dice.choice(RELEASES[1:])
        release = events.Release(release_id=name, tenant_id=self.tenant_id)
        message = events.ReleaseChanged(
            release=release, state=self.dice.choice(states), epoch=self.told + 1, canary_share=0.1
        )
        yield self._event(topics.RELEASES_CHANGED, name, message)

    def _adapter(self) -> Iterator[Event]:
        name = f"{self.tenant_id}-v{self.told}"
        message = events.AdapterTrained(
            tenant_id=self.tenant_id, adapter=name, artifact_uri=f"file:///{name}"
        )
        yield self._event(topics.ADAPTERS_TRAINED, name, message)


def delivered(history: Iterable[Event], dice: random.Random, window: int) -> list[Event]:
    """Each event one to five times; none comes more than `window` places from its own."""
    copies = [e for e in history for _ in range(1 + dice.randrange(MAX_COPIES))]
    places = [(number + dice.random() * window, e) for number, e in enumerate(copies)]
    return [event for _, event in sorted(places, key=lambda pair: pair[0])]
