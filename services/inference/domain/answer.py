"""One answer as it grows: what was asked, what it stands on, and how it ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.inference.domain.guard import GuardedAnswer
from services.inference.domain.pricing import Price
from services.inference.domain.prompts import Passage
from services.inference.domain.refusals import TEXTS, Refusal
from services.inference.domain.releases import Choice

MAX_PASSAGE_CHARS = 2_000


class Finish(StrEnum):
    """How an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True)
class Question:
    """A validated question, personal data masked. release_id is empty unless one was named."""

    tenant_id: str
    text: str
    end_user_id: str
    max_output_tokens: int
    release_id: str


@dataclass(frozen=True)
class Chunk:
    """A retrieved chunk with its marker in the prompt."""

    marker: int
    chunk_id: str
    document_id: str
    version: int
    title: str
    headings: tuple[str, ...]
    text: str
    score: float

    @property
    def passage(self) -> Passage:
        text = self.text[:MAX_PASSAGE_CHARS]
        return Passage(self.marker, self.title, self.headings, text)


@dataclass(frozen=True)
class Retrieved:
    """The question's vector (little-endian 32-bit floats) and the chunks nearest to it."""

    question_embedding: bytes = b""
    chunks: tuple[Chunk, ...] = ()

    def is_relevant(self, threshold: float) -> bool:
        """True when the best chunk is near enough to be worth asking the model."""
        return any(chunk.score >= threshold for chunk in self.chunks)


@dataclass(frozen=True)
class Usage:
    """Tokens as the model server counted them, and their price."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0


@dataclass
class Answer:
    """Filled in step by step; recorded once, however it ends."""

    answer_id: str
    question: Question
    user_hash: str
    choice: Choice
    prompt_version: str
    started_at: float
    """On the monotonic clock, in seconds."""
    traceparent: str = ""
    """W3C trace context, so that feedback can join the answer's trace."""
    retrieved: Retrieved = Retrieved()
    prompt: str = ""
    completion: str = ""
    guarded: GuardedAnswer | None = None
    finish: Finish | None = None
    error_reason: str = ""
    usage: Usage = Usage()
    duration_seconds: float = 0.0
    first_token_seconds: float = 0.0
    recorded: bool = False

    @property
    def tenant_id(self) -> str:
        return self.question.tenant_id

    @property
    def is_evaluation(self) -> bool:
        return bool(self.question.release_id)

    @property
    def text(self) -> str:
        """What the user saw."""
        return self.guarded.text if self.guarded else ""

    @property
    def refusal(self) -> Refusal | None:
        return self.guarded.refusal if self.guarded else None

    @property
    def cited(self) -> Sequence[Chunk]:
        """The chunks behind the text's markers, in the order of the markers in the text."""
        by_marker = {chunk.marker: chunk for chunk in self.retrieved.chunks}
        markers = self.guarded.markers if self.guarded else ()
        return [by_marker[marker] for marker in markers]

    def saw_text(self, now: float) -> None:
        """Keeps the time of the first piece that the user saw."""
        self.first_token_seconds = self.first_token_seconds or now - self.started_at

    def count(self, input_tokens: int, output_tokens: int, price: Price) -> None:
        """Takes a delta's tokens: the input is told once or often, the output adds up."""
        inputs = max(self.usage.input_tokens, input_tokens)
        outputs = self.usage.output_tokens + output_tokens
        self.usage = Usage(inputs, outputs, price.cost_micros(inputs, outputs))

    def refuse_unasked(self, refusal: Refusal) -> str:
        """Ends the answer without the model; returns the words for the user."""
        self.guarded = GuardedAnswer(TEXTS[refusal], (), refusal, ())
        self.finish = Finish.REFUSED
        return self.text

    def complete(self, guarded: GuardedAnswer, finish_reason: str) -> None:
        """Ends the answer as the guard saw it; finish_reason is the model server's."""
        self.guarded = guarded
        ended = Finish.LENGTH if finish_reason == Finish.LENGTH else Finish.STOP
        self.finish = Finish.REFUSED if guarded.refusal else ended

    def fail(self, error_reason: str) -> None:
        """Ends the answer with an error; error_reason is the name of an ErrorReason."""
        self.finish = Finish.ERROR
        self.error_reason = error_reason

    def cancel(self) -> None:
        """Ends the answer because the caller went away."""
        self.finish = Finish.CANCELLED
