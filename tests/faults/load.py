"""A producer outside the mesh that writes down each event that the broker acknowledged."""

import asyncio
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from google.protobuf.message import Message

from tests.ledger.facts import Accepted
from tests.senders import subject_of
from tidemill import topics
from tidemill.api.events import v1 as events
from tidemill.bus.envelope import TOKEN, event_headers
from tidemill.clock import SystemClock
from tidemill.ids import new_id
from tidemill.security.keys import load_or_create_key
from tidemill.security.tokens import EVENT_AUDIENCE, Identity
from tidemill.settings import MeshSettings
from tidemill.topics import Topic

TENANTS = ("harbor", "acme", "tide")
WORDS = ("tide", "mill", "quay", "buoy", "hull", "rope", "sail", "keel", "mast", "wave")
REQUEST_MS = 5_000
SEND_SECONDS = 30.0
AGAIN_SECONDS = 0.1
TRIES = 3
"""Of one event with one producer; then a fresh producer takes over."""

Event = tuple[Topic[Any], str, str, Message]
"""Topic, tenant, aggregate, message."""
Mix = Callable[["random.Random", int], Event]


def documents(seed: random.Random, number: int) -> Event:
    """Submissions of few documents, so that versions follow each other; some withdrawals."""
    tenant, document = seed.choice(TENANTS), f"doc/{seed.randrange(12)}"
    if seed.random() < 0.1:
        withdrawn = events.DocumentWithdrawn(document_id=document)
        return topics.DOCUMENTS_WITHDRAWN, tenant, document, withdrawn
    text = f"Edition {number}: {' '.join(seed.choices(WORDS, k=12))}."
    content = text.encode() if seed.random() > 0.05 else b"The same again."
    submitted = events.DocumentSubmitted(
        document_id=document, media_type="text/plain", content=content, title=document
    )
    return topics.DOCUMENTS_SUBMITTED, tenant, document, submitted


def learning(seed: random.Random, number: int) -> Event:
    """What `counting` makes, and now and then a trained adapter, or feedback from outside on an
    answer that nobody was given."""
    kind = seed.random()
    if kind > 0.055:
        return counting(seed, number)
    tenant = seed.choice(TENANTS)
    if kind > 0.005:
        said = events.FeedbackSubmitted(answer_id=f"none-{number % 40}", thumb_up=True)
        return topics.FEEDBACK_SUBMITTED, tenant, said.answer_id, said
    adapter = f"{tenant}-v{number}"
    trained = events.AdapterTrained(
        tenant_id=tenant, adapter=adapter, artifact_uri=f"file:///nowhere/{adapter}",
        artifact_hash="ab" * 32,
    )  # fmt: skip
    return topics.ADAPTERS_TRAINED, tenant, adapter, trained


def counting(seed: random.Random, number: int) -> Event:
    """Changes of releases, answers, and feedback on earlier or later ones."""
    tenant, kind = seed.choice(TENANTS), seed.random()
    if kind > 0.5:
        return release(seed, number)
    if kind < 0.15:
        return feedback(seed, number, tenant)
    return topics.ANSWERS_GENERATED, tenant, f"ans-{number}", answer(seed, number, tenant)


def release(seed: random.Random, number: int) -> Event:
    """Of tenants whose ledger is elsewhere; the newest epoch of a release counts."""
    tenant, name = f"ledger-{seed.randrange(8)}", f"rel_{seed.randrange(40)}"
    state = seed.choice(("REJECTED", "SUPERSEDED", "ROLLED_BACK"))
    change = events.ReleaseChanged(
        release=events.Release(release_id=name, tenant_id=tenant, prompt_version="p@1"),
        state=events.ReleaseState.Value(f"RELEASE_STATE_{state}"),
        epoch=number,
    )
    return topics.RELEASES_CHANGED, tenant, "releases", change


def feedback(seed: random.Random, number: int, tenant: str) -> Event:
    answer_id = f"ans-{max(0, number + seed.randrange(-40, 5))}"
    said = events.FeedbackRecorded(feedback_id=f"fb-{number}", answer_id=answer_id)
    if seed.random() < 0.5:
        said.thumb.up = seed.random() < 0.5
    else:
        said.correction.text = seed.choice(WORDS)
    return topics.FEEDBACK_RECORDED, tenant, answer_id, said


def answer(seed: random.Random, number: int, tenant: str) -> events.AnswerGenerated:
    said = events.AnswerGenerated(
        tenant_id=tenant, answer_id=f"ans-{number}", release_id="base", user_hash=f"u{number % 50}",
        prompt=f"[1] {seed.choice(WORDS)}\n\nQuestion: {number}?", completion=seed.choice(WORDS),
        question_embedding=struct.pack("<8f", *(seed.gauss(0, 1) for _ in range(8))),
        finish_reason=seed.choice(("stop", "stop", "stop", "error")), refused=seed.random() < 0.2,
        duration_seconds=seed.uniform(0.1, 40), purpose=events.PURPOSE_PRODUCTION,
    )  # fmt: skip
    said.usage.input_tokens, said.usage.output_tokens = seed.randrange(500), seed.randrange(50)
    said.usage.cost_micros = seed.randrange(1_000)
    said.answered_time.FromDatetime(SystemClock().now())
    return said


@dataclass
class Load:
    """Use as an async context manager. accepted is the reference of every audit; retried: sends
    that failed; silent: those that neither failed nor succeeded in SEND_SECONDS."""

    settings: MeshSettings
    mix: Mix
    seed: random.Random
    accepted: dict[str, Accepted] = field(default_factory=dict)
    made: int = 0
    retried: int = 0
    silent: int = 0
    _producer: Any = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __aenter__(self) -> "Load":
        self._identity = Identity(
            load_or_create_key(self.settings.home / "keys"), "outside", SystemClock()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._give_up(self._producer)

    async def burst(self, count: int) -> None:
        """Returns once the broker has acknowledged every event, however often it dies."""
        await asyncio.gather(*(self._send(event) for event in self._events(count)))

    def _events(self, count: int) -> Iterator[Event]:
        for _ in range(count):
            self.made += 1
            yield self.mix(self.seed, self.made)

    async def _send(self, event: Event) -> None:
        topic, tenant, aggregate, message = event
        event_id, value = new_id("evt"), message.SerializeToString(deterministic=True)
        headers = event_headers(topic, event_id, "outside", SystemClock().now())
        if topic.write_scope:
            headers[TOKEN] = self._identity.mint(
                tenant, [topic.write_scope], audience=EVENT_AUDIENCE, subject=subject_of(topic)
            )
        raw = [(name, text.encode()) for name, text in headers.items()]
        for tries in range(1, 1_000):
            producer = await self._connected()
            try:
                key = f"{tenant}/{aggregate}".encode()
                async with asyncio.timeout(SEND_SECONDS):
                    await producer.send_and_wait(topic.name, value, key=key, headers=raw)
            except (KafkaError, OSError, TimeoutError) as error:
                self.retried += 1
                self.silent += isinstance(error, TimeoutError)
                if tries % TRIES == 0 or isinstance(error, TimeoutError):
                    await self._give_up(producer)
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            self.accepted[event_id] = Accepted(topic.name, tenant, value)
            return
        raise TimeoutError("the broker never came back")

    async def _connected(self) -> Any:
        async with self._turn:
            while self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self.settings.kafka_address,
                    acks="all",
                    enable_idempotence=True,
                    request_timeout_ms=REQUEST_MS,
                    retry_backoff_ms=50,
                )
                try:
                    await producer.start()
                    self._producer = producer
                except (KafkaError, OSError):
                    await producer.stop()
                    await asyncio.sleep(AGAIN_SECONDS)
            return self._producer

    async def _give_up(self, producer: Any) -> None:
        """Its batches fail or are sent; a fresh one takes the next events."""
        if producer is None:
            return
        if self._producer is producer:
            self._producer = None
        with suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(REQUEST_MS / 1000):
                await producer.stop()
