"""The folder through which the service and its training process speak to each other.

plan.json and data/ go in; progress.json, then adapter/ and result.json, or failure.json
come out. Every file appears whole or not at all.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.trainer.domain.recipe import Recipe

PLAN = "plan.json"
DATA = "data"
EXAMPLES = "examples.jsonl"
PROGRESS = "progress.json"
CHECKPOINT = "checkpoint.pt"
RESULT = "result.json"
FAILURE = "failure.json"
ADAPTER = "adapter"


@dataclass(frozen=True)
class Plan:
    """What a run is to do. base_folder: model in Hugging Face layout. tracking: MLflow store,
    empty for none."""

    run_id: str
    adapter: str
    base_folder: str
    base_name: str
    base_version: str
    dataset_hash: str
    tracking: str
    recipe: Recipe


@dataclass(frozen=True)
class Progress:
    """steps_done of steps_planned; loss of the last step."""

    steps_done: int
    steps_planned: int
    loss: float


@dataclass(frozen=True)
class Result:
    """metrics: names such as "train/loss_last"; history: (phase, loss) of every step."""

    metrics: dict[str, float]
    history: list[tuple[str, float]]


@dataclass(frozen=True)
class Failure:
    """final: another try would fail in the same way."""

    reason: str
    final: bool


def write_plan(folder: Path, plan: Plan, dataset: str) -> None:
    (folder / DATA).mkdir(parents=True, exist_ok=True)
    write(folder / DATA / EXAMPLES, dataset.encode())
    write_json(folder / PLAN, asdict(plan))


def read_plan(folder: Path) -> Plan:
    raw = json.loads((folder / PLAN).read_text())
    recipe = raw.pop("recipe")
    recipe["modules"] = tuple(recipe["modules"])
    return Plan(recipe=Recipe(**recipe), **raw)


def read_examples(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / DATA / EXAMPLES).read_text().split("\n") if line]


def read_progress(folder: Path) -> Progress | None:
    raw = read_json(folder / PROGRESS)
    return None if raw is None else Progress(**raw)


def read_result(folder: Path) -> Result | None:
    raw = read_json(folder / RESULT)
    return None if raw is None else Result(**raw)


def read_failure(folder: Path) -> Failure | None:
    raw = read_json(folder / FAILURE)
    return None if raw is None else Failure(**raw)


def write_progress(folder: Path, progress: Progress) -> None:
    """Not flushed to disk: losing it costs nothing, and a step should not wait for it."""
    write(folder / PROGRESS, json.dumps(asdict(progress)).encode(), flush=False)


def write_result(folder: Path, metrics: dict[str, float], history: Sequence[Any]) -> None:
    write_json(folder / RESULT, {"metrics": metrics, "history": list(history)})


def write_failure(folder: Path, failure: Failure) -> None:
    write_json(folder / FAILURE, asdict(failure))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def write_json(path: Path, value: object) -> None:
    write(path, json.dumps(value, sort_keys=True).encode())


def write(path: Path, content: bytes, flush: bool = True) -> None:
    """Replace a file in one step, on disk before it is visible if it is to be flushed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        if flush:
            file.flush()
            os.fsync(file.fileno())
    Path(name).replace(path)
