"""One service's tracer and meter, opened and closed with it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry, start_http_server

from tidemill.telemetry.tracing import tracer_provider


@dataclass(frozen=True)
class Telemetry:
    """tracer and meter of one service; registry is what its /metrics shows."""

    tracer: Tracer
    meter: Meter
    registry: CollectorRegistry


@contextmanager
def open_telemetry(
    service: str, folder: Path, *, metrics_port: int | None, host: str = "127.0.0.1"
) -> Iterator[Telemetry]:
    """Spans go to folder/traces.jsonl unless OTEL_EXPORTER_OTLP_ENDPOINT is set; metrics are
    served on http://host:metrics_port/metrics unless the port is None."""
    otlp = bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
    tracers = tracer_provider(service, folder / "traces.jsonl", otlp)
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry)
    resource = Resource.create({"service.name": f"tidemill-{service}"})
    meters = MeterProvider(metric_readers=[reader], resource=resource)
    server = start_http_server(metrics_port, host, registry) if metrics_port else None
    try:
        yield Telemetry(tracers.get_tracer("tidemill"), meters.get_meter("tidemill"), registry)
    finally:
        tracers.shutdown()
        meters.shutdown()
        if server:
            http, thread = server
            http.shutdown()
            http.server_close()
            thread.join(timeout=2)
