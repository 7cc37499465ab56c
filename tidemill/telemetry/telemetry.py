"""One service's tracer and meter, opened and closed with it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry, start_http_server

from tidemill.faults import StartRefused
from tidemill.telemetry.catalogue import METRICS, Kind, Metric
from tidemill.telemetry.tracing import tracer_provider

SECONDS_BOUNDS = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0,
)  # fmt: skip
"""Of every histogram of seconds. The library's own begin at 5, which for seconds tells nothing: a
search takes milliseconds, and the longest answer 110 s."""


@dataclass(frozen=True)
class Telemetry:
    """tracer and meter of one service; registry is what its /metrics shows."""

    tracer: Tracer
    meter: Meter
    registry: CollectorRegistry
    instruments: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def count(self, metric: Metric, amount: int = 1, **labels: str) -> None:
        """Add to a counter of the catalogue; each of its labels is given."""
        self._instrument(metric, labels).add(amount, labels)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Record into a histogram of the catalogue."""
        self._instrument(metric, labels).record(value, labels)

    def level(self, metric: Metric, value: float, **labels: str) -> None:
        """Set a gauge of the catalogue."""
        self._instrument(metric, labels).set(value, labels)

    def _instrument(self, metric: Metric, labels: Mapping[str, str]) -> Any:
        if set(labels) != set(metric.labels):
            raise ValueError(f"{metric.name} takes exactly the labels {metric.labels}")
        return self.instruments[metric.name]


def create_instruments(meter: Meter, metrics: tuple[Metric, ...]) -> dict[str, Any]:
    create = {
        Kind.COUNTER: meter.create_counter,
        Kind.GAUGE: meter.create_gauge,
        Kind.HISTOGRAM: meter.create_histogram,
    }
    return {m.name: create[m.kind](m.name, unit=m.unit, description=m.meaning) for m in metrics}


def seconds_view() -> View:
    """Buckets for every histogram whose unit is "s", whoever creates it."""
    return View(
        instrument_type=Histogram,
        instrument_unit="s",
        aggregation=ExplicitBucketHistogramAggregation(boundaries=SECONDS_BOUNDS),
    )


@contextmanager
def open_telemetry(
    service: str, folder: Path, *, metrics_port: int | None, host: str = "127.0.0.1"
) -> Iterator[Telemetry]:
    """Spans go to folder/traces.jsonl unless OTEL_EXPORTER_OTLP_ENDPOINT is set; metrics are
    served on http://host:metrics_port/metrics unless the port is None."""
    otlp = bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
    registry = CollectorRegistry()
    with serving_metrics(host, metrics_port, registry):
        tracers = tracer_provider(service, folder / "traces.jsonl", otlp)
        reader = PrometheusMetricReader(registry=registry)
        resource = Resource.create({"service.name": f"tidemill-{service}"})
        meters = MeterProvider(metric_readers=[reader], resource=resource, views=[seconds_view()])
        meter = meters.get_meter("tidemill")
        instruments = create_instruments(meter, METRICS)
        try:
            yield Telemetry(tracers.get_tracer("tidemill"), meter, registry, instruments)
        finally:
            tracers.shutdown()
            meters.shutdown()


@contextmanager
def serving_metrics(host: str, port: int | None, registry: CollectorRegistry) -> Iterator[None]:
    if not port:
        yield
        return
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        hint = f"{host}:{port} is taken; stop what uses it or set TIDEMILL_PORT_BASE"
        raise StartRefused("PORT_IN_USE", hint) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=2)
