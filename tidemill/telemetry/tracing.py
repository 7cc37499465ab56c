"""Spans to a local file or an OTLP collector, and W3C trace context in and out of headers."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()

MAX_FILE_BYTES = 64 * 1024 * 1024


class FileSpanExporter(SpanExporter):
    """One JSON object a line; read by `tidemill trace`. Keeps the newest MAX_FILE_BYTES and the
    file before it (".1")."""

    def __init__(self, path: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._max_bytes = max_bytes
        self._file: TextIO = path.open("a", encoding="utf-8")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            for span in spans:
                line = json.dumps(span_record(span), separators=(",", ":"), default=str)
                self._file.write(line + "\n")
            self._file.flush()
            self._rotate()
        except (OSError, ValueError):  # a full disk must not take the service along
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def _rotate(self) -> None:
        if self._file.tell() > self._max_bytes:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("a", encoding="utf-8")

    def shutdown(self) -> None:
        with suppress(OSError):
            self._file.close()


def span_record(span: ReadableSpan) -> dict[str, object]:
    context = span.get_span_context()
    return {
        "trace_id": f"{context.trace_id:032x}" if context else "",
        "span_id": f"{context.span_id:016x}" if context else "",
        "parent_id": f"{span.parent.span_id:016x}" if span.parent else "",
        "service": span.resource.attributes.get("service.name", ""),
        "name": span.name,
        "start_ns": span.start_time,
        "end_ns": span.end_time,
        "status": span.status.status_code.name,
        "attributes": dict(span.attributes or {}),
        "links": [f"{link.context.trace_id:032x}" for link in span.links],
    }


def tracer_provider(service: str, traces_file: Path, otlp: bool) -> TracerProvider:
    provider = TracerProvider(resource=Resource.create({"service.name": f"tidemill-{service}"}))
    exporter: SpanExporter
    if otlp:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter()
    else:
        exporter = FileSpanExporter(traces_file)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
    return provider


def context_of(traceparent: str) -> Context:
    """Context to parent a span with; an empty one starts a new trace."""
    return _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else Context()


def current_traceparent() -> str:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


def traceparent_of(span: Span) -> str:
    context = span.get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def link_of(traceparent: str) -> SpanContext | None:
    """The span context behind a traceparent, to link a later span to it."""
    span = trace.get_current_span(context_of(traceparent))
    context = span.get_span_context()
    return context if isinstance(span, NonRecordingSpan) and context.is_valid else None


SAMPLED = TraceFlags(TraceFlags.SAMPLED)
