"""What monitor takes from one answer."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from tidemill.api.events import v1 as events
from tidemill.faults import CALLERS_OWN
from tidemill.timestamps import utc_time

ERROR = "error"


@dataclass(frozen=True)
class AnswerFacts:
    """Counts and times of one answer, no text; duration in seconds, cost in millionths."""

    tenant_id: str
    answer_id: str
    release_id: str
    production: bool
    refused: bool
    failed: bool
    """By a fault of the release or of a part behind it."""
    ended_by_caller: bool
    """The caller's own time ran out, or the caller asked for too much."""
    input_tokens: int
    output_tokens: int
    cost_micros: int
    duration_seconds: float
    answered_time: datetime
    embedding: bytes

    @property
    def day(self) -> str:
        """Calendar day (UTC) that the cost falls into, for example "2026-11-22"."""
        return self.answered_time.date().isoformat()


def facts_of(event: events.AnswerGenerated) -> AnswerFacts:
    """The facts of an event; its time is UTC."""
    is_error = event.finish_reason == ERROR
    is_callers = event.error_reason in CALLERS_OWN
    return AnswerFacts(
        tenant_id=event.tenant_id,
        answer_id=event.answer_id,
        release_id=event.release_id,
        production=event.purpose == events.PURPOSE_PRODUCTION,
        refused=event.refused,
        failed=is_error and not is_callers,
        ended_by_caller=is_error and is_callers,
        input_tokens=event.usage.input_tokens,
        output_tokens=event.usage.output_tokens,
        cost_micros=event.usage.cost_micros,
        duration_seconds=event.duration_seconds,
        answered_time=utc_time(event, "answered_time"),
        embedding=event.question_embedding,
    )


def vector_of(embedding: bytes) -> NDArray[np.float32]:
    """Vector (d,) from little-endian 32-bit floats; empty when it is not one or not finite."""
    if len(embedding) % 4:
        return np.zeros(0, dtype=np.float32)
    vector = np.frombuffer(embedding, dtype="<f4").astype(np.float32)
    return vector if np.isfinite(vector).all() else np.zeros(0, dtype=np.float32)
