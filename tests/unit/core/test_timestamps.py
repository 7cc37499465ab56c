"""A time that is none is refused by its field's name, and a dead letter that holds one is shown."""

import ast
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.message import Message

from services.evaluator.handlers import rebuilding
from services.inference.handlers.recording import answer_values
from services.monitor.domain.answers import facts_of
from services.trainer.domain.signals import feedback_of
from tests.unit.core.test_rules import TREES
from tidemill import topics
from tidemill.api.events import v1 as events
from tidemill.cli.dlq_commands import readable
from tidemill.faults import Fault, Reason
from tidemill.timestamps import utc_time

MILLISECONDS = 1_764_535_149_000
"""Where seconds belong."""
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def with_time(message: Any, field: str, seconds: int, nanos: int = 0) -> Any:
    getattr(message, field).seconds, getattr(message, field).nanos = seconds, nanos
    return message


def said(seconds: int = MILLISECONDS) -> events.FeedbackRecorded:
    message = events.FeedbackRecorded(feedback_id="f", thumb=events.Thumb(up=True))
    return with_time(message, "recorded_time", seconds)


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(MILLISECONDS, 0), (-(2**63), 0), (2**63 - 1, 0), (1, -1), (1, 2**31 - 1)],
)
def test_a_time_out_of_range_is_refused_by_name(seconds: int, nanos: int) -> None:
    message = with_time(events.AnswerGenerated(), "answered_time", seconds, nanos)
    with pytest.raises(Fault) as caught:
        utc_time(message, "answered_time")
    assert caught.value.reason is Reason.SCHEMA_INVALID
    assert caught.value.metadata == {"field": "answered_time"}


def test_a_time_in_range_is_utc() -> None:
    assert utc_time(said(0), "recorded_time") == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("read", "message", "field"),
    [
        (lambda event: feedback_of(event, NOW), events.FeedbackRecorded, "recorded_time"),
        (facts_of, events.AnswerGenerated, "answered_time"),
        (lambda event: answer_values(event, ""), events.AnswerGenerated, "answered_time"),
        (lambda e: rebuilding.seconds(e, "changed_time"), events.ReleaseChanged, "changed_time"),
    ],
)
def test_services_refuse_it_where_they_read_it(
    read: Callable[[Message], object], message: type[Message], field: str
) -> None:
    with pytest.raises(Fault) as caught:
        read(with_time(message(), field, MILLISECONDS))
    assert caught.value.metadata == {"field": field}


def test_no_service_reads_a_timestamp_by_itself() -> None:
    found = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "ToDatetime"
    }
    assert found == {"tidemill/timestamps.py"}


def test_a_dead_letter_with_an_impossible_time_is_shown() -> None:
    shown = readable(topics.FEEDBACK_RECORDED.name, said().SerializeToString())
    assert shown["feedback_id"] == "f"
    assert shown["impossible_times"] == {"recorded_time": f"seconds {MILLISECONDS}, nanos 0"}
    assert "impossible_times" not in readable(
        topics.FEEDBACK_RECORDED.name, said(0).SerializeToString()
    )
