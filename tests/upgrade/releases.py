"""The release before this one, checked out of the history, with a Python that runs it."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = Path(__file__).with_name("previous_release.toml")


@dataclass(frozen=True)
class Release:
    """python: runs the code that lies in root, and no other Tidemill."""

    version: str
    root: Path
    python: str


def commit() -> str:
    return str(tomllib.loads(NAMED.read_text())["commit"])


def git(*arguments: str) -> bool:
    """Whether it went well, in this repository."""
    program = shutil.which("git")
    if program is None:
        return False
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, check=False)
    return done.returncode == 0


def is_in_history() -> bool:
    """False in a copy of the repository without its history."""
    return git("cat-file", "-e", f"{commit()}^{{commit}}")


def check_out(folder: Path) -> Release:
    """The commit's files, and an environment of its own beside them. Libraries are those of this
    release's environment: what is installed there in editable form, this code, is not seen."""
    root, environment, archive = folder / "code", folder / "venv", folder / "code.tar"
    if not git("archive", f"--output={archive}", commit()):
        raise RuntimeError(f"{commit()} cannot be read from the history")
    shutil.unpack_archive(archive, root, filter="data")
    venv.create(environment, symlinks=True, with_pip=False)
    python = str(environment / "bin" / "python")
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    paths = [str(root), *libraries()]
    Path(found.stdout.strip(), "previous_release.pth").write_text("\n".join(paths) + "\n")
    version = tomllib.loads(NAMED.read_text())["version"]
    return Release(str(version), root, python)


def libraries() -> list[str]:
    """Folders of this environment's packages."""
    found = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    return sorted(path for path in found if path in sys.path)


def code_of(release: Release) -> Path:
    """Where that Python finds Tidemill."""
    asked = "import tidemill; print(tidemill.__file__)"
    found = subprocess.run(
        [release.python, "-c", asked], cwd="/", env={}, capture_output=True, text=True, check=True
    )
    return Path(found.stdout.strip()).parents[1]
