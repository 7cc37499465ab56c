"""Lays out the run-time model repository under the home folder, from deploy/triton."""

import json
import os
import runpy
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tidemill.modelserver import weights
from tidemill.modelserver.install import Installation
from tidemill.modelserver.settings import SOURCE


@dataclass(frozen=True)
class Layout:
    """The folders of one model server at run time."""

    root: Path

    @property
    def repository(self) -> Path:
        return self.root / "repository"

    @property
    def backends(self) -> Path:
        return self.root / "backends"

    @property
    def log(self) -> Path:
        return self.root / "triton.log"

    @property
    def pid(self) -> Path:
        return self.root / "triton.pid"


def locate(home: Path) -> Layout:
    """Where a home folder's model server keeps its files."""
    return Layout(home.resolve() / "modelserver")


def admin_token(home: Path) -> str:
    """The secret that allows loading and unloading models; made at first use."""
    path = locate(home).root / "admin-token"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    return path.read_text()


def lay_out(home: Path, installation: Installation, *, whole: bool = False) -> Layout:
    """Writes repository and backends anew; the table of adapters is kept.

    whole: with the tensors that a backend would otherwise declare, in a process that Triton starts
    for that alone; only where the backend is the one here.

    Raises WeightsFailed when a model is missing or damaged.
    """
    layout = locate(home)
    llm, embedder = weights.llm(home), weights.embedder(home)
    _write_llm(layout.repository / "llm", llm)
    if whole:
        _declare_tensors(layout.repository / "llm" / "config.pbtxt")
    _write_embedder(layout.repository / "embedder", embedder)
    _write_backends(layout.backends, installation)
    return layout


def source() -> Path:
    """The repository's deploy/triton, or the folder TIDEMILL_TRITON_SOURCE names."""
    chosen = os.environ.get(SOURCE.name)
    return Path(chosen) if chosen else Path(__file__).parents[2] / "deploy" / "triton"


def _write_llm(target: Path, llm: weights.Weights) -> None:
    template = source() / "models" / "llm"
    (target / "1").mkdir(parents=True, exist_ok=True)
    shutil.copy2(template / "config.pbtxt", target / "config.pbtxt")
    arguments = json.loads((template / "1" / "model.json").read_text())
    arguments["model"] = str(llm.folder)
    (target / "1" / "model.json").write_text(json.dumps(arguments, indent=1))
    table = target / "1" / "multi_lora.json"
    if not table.exists():
        table.write_text("{}")


def _declare_tensors(path: Path) -> None:
    tensors = runpy.run_path(str(source() / "backends" / "vllm" / "tensors.py"))
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    for name, kind, size, optional in tensors["INPUTS"]:
        number = model_config_pb2.DataType.Value(kind)
        config.input.add(name=name, data_type=number, dims=[size], optional=optional)
    for name, kind, size in tensors["OUTPUTS"]:
        config.output.add(name=name, data_type=model_config_pb2.DataType.Value(kind), dims=[size])
    config.model_transaction_policy.decoupled = True
    path.write_text(text_format.MessageToString(config))


def _write_embedder(target: Path, embedder: weights.Weights) -> None:
    template = source() / "models" / "embedder"
    (target / "1").mkdir(parents=True, exist_ok=True)
    shutil.copy2(template / "1" / "model.py", target / "1" / "model.py")
    config = text_format.Parse(
        (template / "config.pbtxt").read_text(), model_config_pb2.ModelConfig()
    )
    facts = json.loads((embedder.folder / "embedder.json").read_text())
    config.output[0].dims[:] = [facts["dimensions"]]
    config.parameters["model"].string_value = str(embedder.folder)
    config.parameters["model_name"].string_value = embedder.name
    config.parameters["model_version"].string_value = embedder.version
    (target / "config.pbtxt").write_text(text_format.MessageToString(config))


def _write_backends(target: Path, installation: Installation) -> None:
    """Our stand-in beside Triton's own Python backend, which is linked, not copied."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (target / "python").symlink_to(installation.backends / "python")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source() / "backends" / "vllm", target / "vllm", ignore=ignored)
