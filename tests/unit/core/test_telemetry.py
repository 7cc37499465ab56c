"""Metrics have a bounded number of series; spans have a bounded file."""

import json
from collections import defaultdict
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tidemill.telemetry import open_telemetry
from tidemill.telemetry.catalogue import CONSUMER_LAG, DELIVERIES, METRICS, RPC_SECONDS
from tidemill.telemetry.tracing import FileSpanExporter, context_of, traceparent_of

ALLOWED_LABELS = {"consumer", "outcome", "reason", "method", "code", "dependency"}


def test_no_metric_has_a_label_that_could_grow_without_bound() -> None:
    assert {label for metric in METRICS for label in metric.labels} <= ALLOWED_LABELS
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_a_recording_gives_exactly_the_labels_of_the_catalogue(tmp_path: Path) -> None:
    with open_telemetry("test", tmp_path, metrics_port=None) as telemetry:
        telemetry.count(DELIVERIES, consumer="a/b", outcome="applied")
        telemetry.level(CONSUMER_LAG, 7, consumer="a/b")
        with pytest.raises(ValueError, match="labels"):
            telemetry.count(DELIVERIES, consumer="a/b", tenant="acme", outcome="applied")
        samples = [s for metric in telemetry.registry.collect() for s in metric.samples]
    values = {sample.name: sample.value for sample in samples}
    assert values["tidemill_deliveries_total"] == 1
    assert values["tidemill_consumer_lag"] == 7


def test_the_span_file_is_rotated_and_holds_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter(file, max_bytes=2_000)))
    for number in range(50):
        with provider.get_tracer("test").start_as_current_span(f"span-{number}"):
            pass
    provider.shutdown()
    assert file.stat().st_size < 3_000
    previous = file.with_name("traces.jsonl.1").read_text().splitlines()
    assert all(json.loads(line)["name"] for line in previous)


def test_histograms_of_seconds_tell_milliseconds_from_seconds(tmp_path: Path) -> None:
    """Of the catalogue, and of what the services create themselves."""
    with open_telemetry("test", tmp_path, metrics_port=None) as telemetry:
        of_services = telemetry.meter.create_histogram("gen_ai.server.request.duration", unit="s")
        labels = dict.fromkeys(("method", "code"), "x")
        for seconds in (0.004, 0.05, 4.0, 100.0):
            telemetry.observe(RPC_SECONDS, seconds, **labels)
            of_services.record(seconds)
        samples = [s for metric in telemetry.registry.collect() for s in metric.samples]
    found: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        if sample.name.endswith("_seconds_bucket"):
            found[sample.name].append(sample.value)
    assert len(found) == 2
    for counts in found.values():
        assert len(set(counts)) == 4, "each of the four has a bucket of its own"


@pytest.mark.parametrize("text", ["", "junk", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "\n"])
def test_a_traceparent_of_another_shape_starts_a_new_trace(text: str) -> None:
    provider = TracerProvider()
    span = provider.get_tracer("test").start_span("a", context=context_of(text))
    assert span.parent is None
    assert len(traceparent_of(span)) == 55
