"""tidemill trace: one trace, over all processes, from the local span files."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from tidemill.cli.context import JSON_OPTION, open_context, run
from tidemill.cli.output import CommandFailed

Span = dict[str, Any]


def trace(
    identifier: str = typer.Argument(..., help="A trace id, or an event, answer or message id."),
    json_mode: bool = JSON_OPTION,
) -> None:
    """Show the spans of a trace as a tree: from an event to all that it caused."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        spans = read_spans(context.settings.home)
        trace_id = find_trace(spans, identifier)
        found = sorted((s for s in spans if s["trace_id"] == trace_id), key=lambda s: s["start_ns"])
        later = linked(spans, trace_id)
        context.output.document({"trace_id": trace_id, "spans": found, "linked": later})
        context.output.line(f"trace {trace_id}")
        for depth, span in tree(found):
            milliseconds = (span["end_ns"] - span["start_ns"]) / 1e6
            label = f"{'  ' * depth}{span['service']}  {span['name']}"
            context.output.line(f"{label:<78} {milliseconds:>9.1f} ms  {span['status']}")
        for span in later:
            place = f"{span['service']}  {span['name']}"
            context.output.line(f"linked from {place}, trace {span['trace_id']}")

    run(context, work())


def read_spans(home: Path) -> list[Span]:
    spans: list[Span] = []
    for path in sorted(home.glob("*/traces.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                spans.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # a line that is being written right now
    return spans


def find_trace(spans: Iterable[Span], identifier: str) -> str:
    for span in spans:
        if span["trace_id"] == identifier or identifier in map(str, span["attributes"].values()):
            return str(span["trace_id"])
    raise CommandFailed("TRACE_NOT_FOUND", f"no span names {identifier}; spans take a second", 1)


def linked(spans: Iterable[Span], trace_id: str) -> list[Span]:
    """Spans of other traces that came of this one and of others, such as a training run."""
    return [s for s in spans if s["trace_id"] != trace_id and trace_id in s.get("links", ())]


def tree(spans: list[Span]) -> list[tuple[int, Span]]:
    """Spans with their depth, children after parents, in order of their start."""
    known = {span["span_id"] for span in spans}
    children: dict[str, list[Span]] = {}
    for span in spans:
        parent = span["parent_id"] if span["parent_id"] in known else ""
        children.setdefault(parent, []).append(span)
    ordered: list[tuple[int, Span]] = []

    def visit(parent: str, depth: int) -> None:
        for span in children.get(parent, []):
            ordered.append((depth, span))
            visit(span["span_id"], depth + 1)

    visit("", 0)
    return ordered
