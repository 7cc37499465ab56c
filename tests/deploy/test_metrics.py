"""Dashboards, alerts and the scrape configuration ask for what is there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from services.inference.handlers.observing import Observer
from services.monitor.adapters.figures import Figures
from services.trainer.handlers.feedback import FeedbackMeter
from tests.deploy.files import DEPLOY, ROOT, composed
from tidemill.settings import SERVICES, MeshSettings
from tidemill.telemetry.catalogue import METRICS
from tidemill.telemetry.telemetry import create_instruments

DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
SERIES = re.compile(r"\b((?:tidemill|gen_ai|vllm|nv)[a-z0-9_:]*[a-z0-9])\b")
OF_TRITON = re.compile(r"vllm:[a-z_]+")


class Remembering:
    """A meter that keeps what is made on it, so that a value can be written into each."""

    def __init__(self, meter: Any) -> None:
        self._meter = meter
        self.made: list[tuple[str, Any]] = []

    def create_observable_counter(self, name: str, _: Any, unit: str, description: str) -> Any:
        callbacks = [lambda _: [Observation(1)]]
        return self._meter.create_observable_counter(name, callbacks, unit, description)

    def __getattr__(self, name: str) -> Any:
        def make(*args: Any, **kwargs: Any) -> Any:
            instrument = getattr(self._meter, name)(*args, **kwargs)
            self.made.append((name, instrument))
            return instrument

        return make


def exported() -> set[str]:
    """Names of series as Prometheus sees them, of every instrument of every service."""
    registry = CollectorRegistry()
    provider = MeterProvider(metric_readers=[PrometheusMetricReader(registry=registry)])
    meter: Any = Remembering(provider.get_meter("tidemill"))
    create_instruments(meter, METRICS)
    Figures(meter, max_tenants=1), Observer(meter, "llm"), FeedbackMeter(meter)
    write = {"create_counter": "add", "create_gauge": "set", "create_histogram": "record"}
    for made_by, instrument in meter.made:
        getattr(instrument, write[made_by])(1)
    text = generate_latest(registry).decode()
    provider.shutdown()
    return {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}


def of_the_model_server() -> set[str]:
    """vLLM's names, which our engine reports too."""
    text = (DEPLOY / "triton/backends/vllm/metrics.py").read_text()
    return set(OF_TRITON.findall(text))


def queries(path: Path) -> list[str]:
    panels = json.loads(path.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def unknown(expressions: list[str]) -> set[str]:
    return {n for e in expressions for n in SERIES.findall(e)} - exported() - of_the_model_server()


def test_there_is_a_dashboard_for_the_loop_cost_drift_and_lag() -> None:
    assert [path.stem for path in DASHBOARDS] == ["cost", "drift", "lag", "loop"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_ask_for_metrics_that_exist(path: Path) -> None:
    assert queries(path)
    assert not unknown(queries(path))


def test_a_query_for_a_metric_that_does_not_exist_is_found() -> None:
    assert unknown(["rate(tidemill_deliverys_total[5m])"]) == {"tidemill_deliverys_total"}


def test_rules_ask_for_metrics_that_exist() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    assert expressions
    assert not unknown(expressions)


def test_every_shared_metric_is_looked_at_somewhere() -> None:
    """A metric that no dashboard and no rule shows is one that nobody looks at."""
    texts = [path.read_text() for path in [*DASHBOARDS, DEPLOY / "prometheus/rules.yaml"]]
    missing = {m.name for m in METRICS if not any(m.name.replace(".", "_") in t for t in texts)}
    assert not missing


def test_panels_use_the_data_source_that_is_provisioned() -> None:
    source = yaml.safe_load((DEPLOY / "grafana/datasource.yaml").read_text())["datasources"][0]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            assert panel["datasource"]["uid"] == source["uid"]


def test_prometheus_asks_every_service_where_it_serves_metrics() -> None:
    settings = MeshSettings()
    jobs = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())["scrape_configs"]
    targets = {t for job in jobs for group in job["static_configs"] for t in group["targets"]}
    assert targets == {
        *(f"{name}:{settings.metrics_port(name)}" for name in SERVICES),
        f"triton:{settings.port(3)}",
    }


def test_runbooks_that_alerts_name_exist() -> None:
    text = (DEPLOY / "prometheus/rules.yaml").read_text()
    named = set(re.findall(r"docs/[a-z-]+\.md", text))
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_grafana_reads_what_compose_mounts() -> None:
    volumes = composed()["services"]["grafana"]["volumes"]
    assert all(Path(volume["source"]).exists() for volume in volumes)
