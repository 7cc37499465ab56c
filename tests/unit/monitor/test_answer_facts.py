"""What monitor takes from an answer."""

import numpy as np
import pytest

from services.monitor.adapters.figures import outcome_of
from services.monitor.domain.answers import facts_of, vector_of
from tidemill.api.events import v1 as events


def test_a_vector_is_read_from_little_endian_floats() -> None:
    assert vector_of(np.array([1.5, -2.0], dtype="<f4").tobytes()).tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    "embedding",
    [b"", b"abc", np.array([1.0, np.nan], dtype="<f4").tobytes()],
    ids=["empty", "cut", "not finite"],
)
def test_bytes_that_are_no_vector_are_left_out(embedding: bytes) -> None:
    assert vector_of(embedding).size == 0


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("DEADLINE_EXCEEDED", "caller"),
        ("INVALID_ARGUMENT", "caller"),
        ("REQUEST_TOO_LARGE", "caller"),
        ("DEPENDENCY_UNAVAILABLE", "error"),
        ("INTERNAL", "error"),
        ("", "error"),
    ],
)
def test_an_error_that_the_caller_brought_about_is_not_the_releases(
    reason: str, outcome: str
) -> None:
    facts = facts_of(events.AnswerGenerated(finish_reason="error", error_reason=reason))
    assert outcome_of(facts) == outcome
    assert facts.failed is (outcome == "error")
