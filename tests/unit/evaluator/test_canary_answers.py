"""What a live answer says of the release that gave it."""

import pytest

from services.evaluator.handlers.canarying import _answer_row
from tidemill.api.events import v1 as events


@pytest.mark.parametrize(
    ("reason", "failed"),
    [("DEADLINE_EXCEEDED", False), ("INVALID_ARGUMENT", False), ("DEPENDENCY_UNAVAILABLE", True)],
)
def test_an_answer_that_its_caller_ended_is_no_error_of_the_release(
    reason: str, failed: bool
) -> None:
    event = events.AnswerGenerated(
        finish_reason="error", error_reason=reason, duration_seconds=20.0
    )
    row = _answer_row(event, "acme")
    assert row.failed is failed
    assert row.duration_seconds == 20.0
