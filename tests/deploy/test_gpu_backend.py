"""Our few lines on top of NVIDIA's backend: new adapters are known, and none changes its place.

The class below stands for theirs, which needs a GPU: it has what their `_verify_loras` uses.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.deploy.files import DEPLOY


class VllmModel:
    """As NVIDIA's: the table is read once, at the start."""

    def __init__(self, table: Path) -> None:
        self.enable_lora = True
        self.lora_repository = json.loads(table.read_text())
        self.supported_loras = list(self.lora_repository)

    def _verify_loras(self, request: str) -> str | None:
        return request if request in self.supported_loras else None


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "multi_lora.json"
    write(path, {"support-v1": "/adapters/support-v1"})
    return path


@pytest.fixture
def model(table: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    utilities, theirs = ModuleType("triton_python_backend_utils"), ModuleType("nvidia_model")
    utilities.get_model_dir = lambda: str(table.parent)  # type: ignore[attr-defined]
    theirs.TritonPythonModel = VllmModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utilities)
    monkeypatch.setitem(sys.modules, "nvidia_model", theirs)
    spec = importlib.util.spec_from_file_location("gpu_model", DEPLOY / "triton/gpu/model.py")
    assert spec
    assert spec.loader
    ours = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ours)
    return ours.TritonPythonModel(table)


def write(path: Path, table: dict[str, str]) -> None:
    """As tidemill.modelserver.adapters does; the time is moved where the clock is coarse."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    part = path.with_suffix(".part")
    part.write_text(json.dumps(table))
    os.utime(part, ns=(before + 1_000_000, before + 1_000_000))
    part.replace(path)


def test_an_adapter_that_came_later_is_known_without_a_restart(model: Any, table: Path) -> None:
    assert model._verify_loras("support-v2") is None
    write(table, {"support-v1": "/adapters/support-v1", "support-v2": "/adapters/support-v2"})
    assert model._verify_loras("support-v2") == "support-v2"
    assert model.lora_repository["support-v2"] == "/adapters/support-v2"


def test_an_adapter_keeps_its_place_which_is_its_id(model: Any, table: Path) -> None:
    names = ["support-v1"]
    for number in range(2, 6):
        names.append(f"support-v{number}")
        write(table, {name: f"/adapters/{name}" for name in names})
        model._verify_loras("support-v1")
        assert model.supported_loras == names


def test_requests_under_way_see_the_same_objects(model: Any, table: Path) -> None:
    repository, names = model.lora_repository, model.supported_loras
    write(table, {"support-v1": "/adapters/support-v1", "support-v2": "/adapters/support-v2"})
    model._verify_loras("support-v2")
    assert model.lora_repository is repository
    assert model.supported_loras is names


def test_nothing_is_read_while_nothing_changed(model: Any, table: Path) -> None:
    model._verify_loras("support-v1")
    moment = table.stat().st_mtime_ns
    table.write_text("not JSON")
    os.utime(table, ns=(moment, moment))
    assert model._verify_loras("support-v1") == "support-v1"
