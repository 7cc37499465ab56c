"""What a command imports before it needs it: a list of commands waits for no library."""

import json
import subprocess
import sys

import typer
from typer.core import TyperGroup

from tidemill.cli.main import COMMANDS, build

HEAVY = [
    "aiokafka",
    "cryptography",
    "faststream",
    "google.protobuf",
    "grpc",
    "numpy",
    "opentelemetry",
    "pydantic",
    "sqlalchemy",
    "structlog",
    "tidemill.api",
]


def heavy_after(program: str) -> list[str]:
    """Which of HEAVY an interpreter of its own has loaded once the program ran."""
    told = f"import sys, json\nprint('\\n' + json.dumps([n for n in {HEAVY} if n in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{told}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_help_imports_no_library_of_the_mesh() -> None:
    program = """
from tidemill.cli.main import build
try:
    build()(["--help"])
except SystemExit:
    pass"""
    assert heavy_after(program) == []


def test_up_starts_the_mesh_before_it_imports_its_clients() -> None:
    program = """
from tidemill.cli import control, mesh_commands, supervisor
from tidemill.cli.context import open_context
supervisor.Supervisor(open_context().settings)"""
    # Settings need pydantic, and errors carry gRPC's status.
    assert set(heavy_after(program)) <= {"grpc", "pydantic"}


def test_the_list_says_what_each_command_says_of_itself() -> None:
    group = typer.main.get_command(build())
    assert isinstance(group, TyperGroup)
    assert list(group.commands) == [entry.name for entry in COMMANDS]
    for entry in COMMANDS:
        own = (entry.load().help or "").partition("\n\n")[0]
        assert " ".join(own.split()) == entry.summary
