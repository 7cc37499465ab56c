"""The command line as a user types it, without a mesh: help, errors, exit codes."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = [
    "setup",
    "up",
    "down",
    "status",
    "submit",
    "ask",
    "feedback",
    "releases",
    "runs",
    "alerts",
    "usage",
    "budget",
    "topics",
    "trace",
    "token",
    "demo",
]


def tidemill(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = "from tidemill.cli.main import run; run()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"TIDEMILL_HOME": str(home), "PATH": "/usr/bin:/bin", **environment},
        check=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_every_command_has_help(tmp_path: Path) -> None:
    overview = tidemill(tmp_path, "--help")
    assert overview.returncode == 0
    for command in COMMANDS:
        assert command in overview.stdout
    assert "--json" in tidemill(tmp_path, "ask", "--help").stdout


def test_feedback_needs_exactly_one_judgement(tmp_path: Path) -> None:
    result = tidemill(tmp_path, "feedback", "ans_1", "--thumb", "up", "--prefer", "x", "--json")
    assert result.returncode == 2
    assert json.loads(result.stdout)["error"]["reason"] == "INVALID_ARGUMENT"
    assert "Traceback" not in result.stderr


def test_up_before_setup_says_what_to_run(tmp_path: Path) -> None:
    result = tidemill(tmp_path, "up")
    assert result.returncode == 2
    assert "NOT_SET_UP" in result.stderr
    assert "tidemill setup" in result.stderr


def test_a_mesh_that_is_down_is_told_without_a_traceback(tmp_path: Path) -> None:
    result = tidemill(tmp_path, "releases", "--json", TIDEMILL_PORT_BASE=str(free_port()))
    assert result.returncode == 1
    assert json.loads(result.stdout)["error"]["reason"] == "DEPENDENCY_UNAVAILABLE"
    assert "Traceback" not in result.stderr


def test_status_of_nothing_exits_with_one(tmp_path: Path) -> None:
    result = tidemill(tmp_path, "status", "--json")
    assert (result.returncode, json.loads(result.stdout)) == (
        1,
        {"running": False, "processes": [], "consumers": []},
    )


def test_a_tenant_that_could_not_be_in_a_token_is_refused(tmp_path: Path) -> None:
    result = tidemill(tmp_path, "token", "--tenant", 'a" or tenant != "')
    assert result.returncode == 2
    assert "INVALID_ARGUMENT" in result.stderr


def test_topics_lists_the_catalogue_without_a_broker(tmp_path: Path) -> None:
    result = tidemill(tmp_path, "topics", "--json")
    topics = {row["topic"] for row in json.loads(result.stdout)["topics"]}
    assert {"documents.submitted.v1", "feedback.recorded.v1", "alerts.raised.v1"} <= topics
