"""Writes a finished run into MLflow, whose user interface shows it beside the others."""

import logging
import os
from dataclasses import asdict
from pathlib import Path

from services.trainer.adapters import run_folder

EXPERIMENT = "tidemill-trainer"


def record(folder: Path) -> None:
    """One MLflow run of the folder's plan and result; recording it again changes nothing."""
    plan, result = run_folder.read_plan(folder), run_folder.read_result(folder)
    if not plan.tracking or result is None:
        return
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    logging.getLogger("alembic").setLevel(logging.ERROR)
    client = MlflowClient(plan.tracking)
    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT)
    if client.search_runs([experiment], f"tags.run_id = '{plan.run_id}'", max_results=1):
        return
    run = client.create_run(experiment, run_name=plan.adapter, tags={"run_id": plan.run_id})
    start = run.info.start_time
    losses = [
        Metric(f"{phase}/loss", loss, start, step)
        for step, (phase, loss) in enumerate(result.history)
    ]
    totals = [Metric(name, value, start, len(losses)) for name, value in result.metrics.items()]
    facts = asdict(plan.recipe) | {"base": plan.base_name, "dataset": plan.dataset_hash}
    params = [Param(name, str(value)) for name, value in facts.items()]
    tags = [RunTag("base_version", plan.base_version)]
    for start_at in range(0, len(losses), 900):  # MLflow takes 1,000 metrics a call
        client.log_batch(run.info.run_id, metrics=losses[start_at : start_at + 900])
    client.log_batch(run.info.run_id, metrics=totals, params=params, tags=tags)
    client.set_terminated(run.info.run_id, "FINISHED")
