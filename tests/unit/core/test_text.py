"""A NUL in any text of a message is found; zero bytes elsewhere are none of its business."""

import pytest
from google.protobuf.message import Message

from tidemill.api.events import v1 as events
from tidemill.text import field_with_nul


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (events.AnswerGenerated(question="a\0b"), "question"),
        (events.AnswerGenerated(question="a", question_embedding=b"\0\0"), ""),
        (events.FeedbackRecorded(correction=events.Correction(text="\0")), "text"),
        (events.DocumentSubmitted(document_id="a", content=b"\0"), ""),
        (events.FeedbackRecorded(answer_id="plain"), ""),
    ],
)
def test_a_nul_is_found_at_any_depth(message: Message, field: str) -> None:
    assert field_with_nul(message, message.SerializeToString()) == field
