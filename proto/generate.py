"""Generate tidemill/api from proto/, swapping the package in only when every step succeeded."""

import re
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "proto"
TARGET = ROOT / "tidemill" / "api"
PLUGINS = Path(sys.executable).parent


def run_protoc(arguments: list[str]) -> None:
    well_known = str(files("grpc_tools") / "_proto")
    status = protoc.main(["protoc", f"-I{SOURCE}", f"-I{well_known}", *arguments])
    if status != 0:
        raise SystemExit(f"protoc failed with status {status}")


def generate(out: Path) -> None:
    protos = sorted(str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.proto"))
    services = [p for p in protos if p.endswith("_service.proto")]
    mypy = f"--plugin=protoc-gen-mypy={PLUGINS / 'protoc-gen-mypy'}"
    mypy_grpc = f"--plugin=protoc-gen-mypy_grpc={PLUGINS / 'protoc-gen-mypy_grpc'}"
    run_protoc([mypy, f"--python_out={out}", f"--mypy_out=quiet:{out}", *protos])
    run_protoc([mypy_grpc, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *services])


def public_names(package: Path) -> dict[str, list[str]]:
    """Names that each generated module of a package offers, read from its stub."""
    names: dict[str, list[str]] = {}
    for stub in sorted(package.glob("*.pyi")):
        found = re.findall(r"^class (\w+)|^(\w+): \w", stub.read_text(), re.MULTILINE)
        flat = sorted({a or b for a, b in found if not (a or b).startswith("_")})
        skip = {"DESCRIPTOR", "GRPC_GENERATED_VERSION", "GRPC_VERSION"}
        flat = [n for n in flat if n not in skip and not n.endswith("_FIELD_NUMBER")]
        names[stub.stem] = [
            n for n in flat if not n.startswith("Global___") and not n.endswith("AsyncStub")
        ]
    return names


def write_init(package: Path) -> None:
    area = ".".join(package.parts[-4:])
    lines = [f'"""Messages and services of {area} (generated; run `make proto`)."""', ""]
    exported: list[str] = []
    for module, names in public_names(package).items():
        if names:
            body = ",\n    ".join(names)
            lines.append(f"from .{module} import (\n    {body},\n)")
            exported += names
    listed = ",\n    ".join(f'"{n}"' for n in sorted(exported))
    lines += ["", f"__all__ = [\n    {listed},\n]", ""]
    (package / "__init__.py").write_text("\n".join(lines))


def build(out: Path) -> Path:
    """The whole package, generated under a folder; returns its tidemill/api."""
    generate(out)
    api = out / "tidemill" / "api"
    for package in sorted({p.parent for p in api.rglob("*_pb2.py")}):
        write_init(package)
        (package.parent / "__init__.py").write_text('"""Generated; run `make proto`."""\n')
    (api / "__init__.py").write_text('"""Contracts generated from proto/; never edited."""\n')
    return api


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        api = build(Path(folder))
        shutil.rmtree(TARGET, ignore_errors=True)
        shutil.copytree(api, TARGET)


if __name__ == "__main__":
    main()
