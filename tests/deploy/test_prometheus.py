"""Prometheus' own tool on its configuration, and on the alerts: each fires when it should."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.files import DEPLOY
from tests.deploy.tools import promtool

FOLDER = DEPLOY / "prometheus"


@pytest.fixture(scope="module")
def tool() -> Path:
    return promtool()


def check(tool: Path, *arguments: str, folder: Path = FOLDER) -> str:
    done = subprocess.run(
        [tool, *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_configuration_and_the_rules_are_sound(tool: Path) -> None:
    assert not check(tool, "check", "config", "prometheus.yaml")
    assert not check(tool, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")


def test_alerts_fire_when_they_should_and_not_before(tool: Path) -> None:
    assert not check(tool, "test", "rules", "rules.test.yaml")


def test_a_rule_that_never_fires_is_found(tool: Path, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "prometheus")
    rules = tmp_path / "prometheus" / "rules.yaml"
    rules.write_text(
        rules.read_text().replace("(tidemill_broker_up) < 1", "(tidemill_broker_up) < 0")
    )
    assert "BrokerAway" in check(tool, "test", "rules", "rules.test.yaml", folder=rules.parent)


def test_every_alert_is_tried() -> None:
    rules = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    tried = yaml.safe_load((FOLDER / "rules.test.yaml").read_text())["tests"]
    names = {rule["alert"] for group in rules for rule in group["rules"]}
    assert names == {case["alertname"] for test in tried for case in test["alert_rule_test"]}
