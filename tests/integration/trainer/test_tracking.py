"""A finished run can be looked at in MLflow."""

import json
from pathlib import Path

import pytest

from services.trainer.adapters import run_folder, tracking
from services.trainer.adapters.run_folder import Plan
from services.trainer.domain.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own


def finished(folder: Path, store: str) -> Path:
    plan = Plan("run-1", "harbor-v1", "/models/tiny", "tiny", "0", "hash", store, Recipe())
    run_folder.write_plan(folder, plan, "")
    history = [("supervised", 2.0), ("supervised", 1.0), ("preference", 0.7)]
    run_folder.write_result(folder, {"train/loss_last": 1.0}, history)
    return folder


def test_a_run_is_recorded_once_with_its_losses(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    folder = finished(tmp_path / "run", store)
    tracking.record(folder)
    tracking.record(folder)
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "harbor-v1"
    assert run.info.status == "FINISHED"
    losses = client.get_metric_history(run.info.run_id, "supervised/loss")
    assert [(metric.step, metric.value) for metric in losses] == [(0, 2.0), (1, 1.0)]
    assert run.data.metrics["train/loss_last"] == 1.0
    assert run.data.params["dataset"] == "hash"
    assert json.loads(run.data.params["seed"]) == 0


def test_without_a_store_nothing_is_recorded(tmp_path: Path) -> None:
    tracking.record(finished(tmp_path / "run", ""))
    assert not list(tmp_path.glob("*.db"))
