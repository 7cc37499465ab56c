"""Sets up Triton's binary, its models' Python environment and the weights under one home."""

import argparse
import os
import shutil
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

from tidemill.modelserver import weights
from tidemill.modelserver.packages import (
    InstallFailed,
    Report,
    exclusive,
    pip_install,
    staged,
)

TRITON_PACKAGE = "nvidia-pytriton==0.7.0"
# The stub of this Triton was built against NumPy 1: with NumPy 2 outputs come back empty.
NUMPY_PACKAGE = "numpy==1.26.4"
STAMP = ".installed"


@dataclass(frozen=True)
class Installation:
    """Where the parts of one installed model server lie."""

    triton: Path
    environment: Path

    @property
    def binary(self) -> Path:
        return self.triton / "pytriton/tritonserver/bin/tritonserver"

    @property
    def backends(self) -> Path:
        return self.triton / "pytriton/tritonserver/backends"

    @property
    def libraries(self) -> Path:
        return self.triton / "nvidia_pytriton.libs"

    @property
    def caches(self) -> Path:
        return self.triton / "pytriton/tritonserver/caches"


def locate(home: Path) -> Installation:
    """Paths under `home`; says nothing about whether they exist."""
    tools = home.resolve() / "tools"
    return Installation(triton=tools / "triton", environment=tools / "triton-env")


def install(home: Path, report: Report) -> Installation:
    """Makes everything the server needs; a second run changes nothing.

    Raises InstallFailed with reason NO_SHARED_PYTHON, PIP_FAILED or UNSUPPORTED_PYTHON.
    """
    shared_python_folder()
    found = locate(home)
    with exclusive(home / "tools"):
        _install_triton(found.triton, report)
        _install_environment(found.environment, report)
        weights.prepare(home, report)
    return found


def shared_python_folder() -> Path:
    """The folder of libpython, which Triton's stub must load from the same Python as ours."""
    name = str(sysconfig.get_config_var("INSTSONAME") or "")
    # A Python that was moved after it was built still tells where it was built for.
    built_for = Path(str(sysconfig.get_config_var("LIBDIR")))
    for folder in (built_for, Path(sys.base_prefix, "lib")):
        if ".so" in name and os.access(folder / name, os.R_OK):
            return folder
    raise InstallFailed(
        "NO_SHARED_PYTHON",
        "this Python has no shared libpython; use one built with --enable-shared",
    )


def _install_triton(target: Path, report: Report) -> None:
    if _stamped(target, TRITON_PACKAGE):
        report(f"triton: already installed ({TRITON_PACKAGE})")
        return
    report(f"triton: installing {TRITON_PACKAGE} (55 MB download)")
    with staged(target) as folder:
        pip_install(TRITON_PACKAGE, folder)
        _place_stub(folder)
        (folder / STAMP).write_text(TRITON_PACKAGE)
    report("triton: installed")


def _place_stub(folder: Path) -> None:
    server = folder / "pytriton/tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise InstallFailed(
            "UNSUPPORTED_PYTHON", f"Triton ships no stub for Python {version}; use 3.10 to 3.12"
        )
    shutil.copy2(stub, server / "backends/python/triton_python_backend_stub")


def _install_environment(target: Path, report: Report) -> None:
    packages = sysconfig.get_path("purelib")
    identity = f"{NUMPY_PACKAGE} over {packages}"
    if _stamped(target, identity):
        report("model environment: already made")
        return
    report(f"model environment: making it with {NUMPY_PACKAGE}")
    with staged(target) as folder:
        venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        overlay = folder / "lib" / version / "site-packages"
        pip_install(NUMPY_PACKAGE, overlay)
        (overlay / "zz_application.pth").write_text(f"{packages}\n")
        (folder / STAMP).write_text(identity)
    report("model environment: made")


def _stamped(target: Path, identity: str) -> bool:
    stamp = target / STAMP
    return stamp.exists() and stamp.read_text() == identity


def main() -> int:
    """Command line: `python -m tidemill.modelserver.install --home DIR`."""
    parser = argparse.ArgumentParser(prog="python -m tidemill.modelserver.install")
    parser.add_argument("--home", type=Path, default=Path(".tidemill"), help="where to install")
    home = parser.parse_args().home
    try:
        install(home, _say)
    except (InstallFailed, weights.WeightsFailed) as error:
        sys.stderr.write(f"{error.reason}: {error}\n")
        return 1
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
