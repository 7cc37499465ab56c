"""The `tidemill` command."""

import logging
import sys

import typer

from tidemill.cli import dlq_commands, keys_commands, mesh_commands, use_commands, watch_commands
from tidemill.cli.credentials_command import credentials
from tidemill.cli.demo.command import demo
from tidemill.cli.rebuild_command import rebuild
from tidemill.cli.smoke_command import smoke
from tidemill.cli.trace_command import trace

HELP = """Answers from your documents that get better from feedback, proven before they go live.

Start with `tidemill setup`, then `tidemill up`, `tidemill submit PATH`, `tidemill ask "..."`.
State lies in TIDEMILL_HOME (default: .tidemill). Exit codes: 0 done, 1 failed, 2 change the call.
"""


def build() -> typer.Typer:
    """The command line with all its commands."""
    app = typer.Typer(
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    commands = (
        mesh_commands.setup,
        mesh_commands.up,
        mesh_commands.down,
        mesh_commands.status,
        use_commands.submit,
        use_commands.ask,
        use_commands.feedback,
        watch_commands.releases,
        watch_commands.runs,
        watch_commands.alerts,
        watch_commands.usage,
        watch_commands.budget,
        mesh_commands.topics,
        rebuild,
        trace,
        watch_commands.token,
        credentials,
        smoke,
        demo,
    )
    for command in commands:
        app.command()(command)
    app.add_typer(dlq_commands.app, name="dlq")
    app.add_typer(keys_commands.app, name="keys")
    return app


def run() -> None:
    """Entry point of the console script."""
    # A broker that is not up yet is this program's to tell, not its library's.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        build()()
    except KeyboardInterrupt:
        sys.exit(130)
