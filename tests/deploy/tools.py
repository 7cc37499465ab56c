"""Programs that no package index carries: promtool, from the machine or from Debian's package."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import ROOT

FOLDER = ROOT / ".tidemill" / "tools" / "debian"
PACKAGE = "prometheus"
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


def run(*command: str) -> None:
    done = subprocess.run(
        command, cwd=FOLDER, capture_output=True, text=True, timeout=FETCH_SECONDS
    )
    if done.returncode:
        pytest.fail(f"{command[0]} could not fetch {PACKAGE}: {done.stderr[-500:]}")
