"""Every setting that deploy/ names exists, and every one that exists is named there."""

import re
import subprocess
import sys

from tests.deploy.files import DEPLOY, ROOT, text_files

NAME = re.compile(r"\bTIDEMILL_[A-Z0-9_]+\b")
LITERAL = re.compile(r"[\"'](TIDEMILL_[A-Z0-9_]+)[\"']")
LISTED = re.compile(r"^#(TIDEMILL_[A-Z0-9_]+)=", re.M)
OF_COMPOSE = {"TIDEMILL_IMAGE", "TIDEMILL_ML_IMAGE", "TIDEMILL_TRITON_GPU_IMAGE"}
"""Names of images, which compose alone reads."""
OF_THE_COMMAND_LINE = {"TIDEMILL_TENANT"}


def listed() -> set[str]:
    return set(LISTED.findall((DEPLOY / "settings.env").read_text()))


def test_the_list_of_settings_is_what_the_code_says() -> None:
    command = [sys.executable, "-m", "deploy.generate", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_setting_that_deploy_names_exists() -> None:
    named = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in text_files()
        for name in NAME.findall(path.read_text())
    }
    unknown = {(path, name) for path, name in named if name not in listed() | OF_COMPOSE}
    assert not unknown


def test_every_variable_that_code_reads_by_name_is_listed() -> None:
    read = {
        name
        for folder in ("tidemill", "services", "deploy")
        for path in (ROOT / folder).rglob("*.py")
        for name in LITERAL.findall(path.read_text())
        if not name.endswith("_")
    }
    assert read - OF_THE_COMMAND_LINE <= listed()


def test_the_list_can_be_given_to_every_service_as_it_is() -> None:
    lines = (DEPLOY / "settings.env").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
