"""Spans of several processes become one tree."""

import json
from pathlib import Path

import pytest

from tidemill.cli.output import CommandFailed
from tidemill.cli.trace_command import find_trace, linked, read_spans, tree


def span(identifier: str, parent: str, start: int, **attributes: str) -> dict[str, object]:
    return {
        "trace_id": "t1",
        "span_id": identifier,
        "parent_id": parent,
        "start_ns": start,
        "end_ns": start + 1,
        "service": "s",
        "name": identifier,
        "status": "UNSET",
        "attributes": attributes,
    }


def test_children_follow_their_parents_and_orphans_are_roots() -> None:
    spans = [span("c", "b", 3), span("b", "a", 2), span("a", "gone", 1)]
    assert [(depth, s["name"]) for depth, s in tree(spans)] == [(0, "a"), (1, "b"), (2, "c")]


def test_a_trace_is_found_by_a_message_id() -> None:
    spans = [span("a", "", 1, **{"messaging.message.id": "evt_1"})]
    assert find_trace(spans, "evt_1") == "t1"
    with pytest.raises(CommandFailed, match="TRACE_NOT_FOUND"):
        find_trace(spans, "evt_2")


def test_a_span_that_came_of_many_traces_is_named_in_each() -> None:
    run = span("run", "", 5) | {"trace_id": "t2", "links": ["t1", "t2"]}
    spans = [span("a", "", 1), run]
    assert linked(spans, "t1") == [run]
    assert linked(spans, "t2") == []


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "ingest").mkdir()
    line = json.dumps(span("a", "", 1))
    (tmp_path / "ingest" / "traces.jsonl").write_text(line + "\n" + line[:20])
    assert len(read_spans(tmp_path)) == 1
