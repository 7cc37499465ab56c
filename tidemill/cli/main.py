"""The `tidemill` command."""

import logging
import sys

import typer

from tidemill.cli.lazy import Entry, lazy_group

HELP = """Answers from your documents that get better from feedback, proven before they go live.

Start with `tidemill setup`, then `tidemill up`, `tidemill submit PATH`, `tidemill ask "..."`.
State lies in TIDEMILL_HOME (default: .tidemill). Exit codes: 0 done, 1 failed, 2 change the call.
"""
COMMANDS = (
    Entry(
        "setup",
        "mesh_commands:setup",
        "Install Triton and convert the default weights; a second run changes nothing.",
    ),
    Entry(
        "up",
        "mesh_commands:up",
        "Start broker, Triton and the seven services, and wait until each answers.",
    ),
    Entry("down", "mesh_commands:down", "Stop the mesh; its state stays."),
    Entry(
        "status",
        "mesh_commands:status",
        "Show each process, whether it answers a real request, and consumers that wait or stopped. "
        "Exit code 1 when a process does not answer or a consumer does not go on.",
    ),
    Entry(
        "submit",
        "use_commands:submit",
        "Submit documents as Kafka events and wait until they are searchable.",
    ),
    Entry("ask", "use_commands:ask", "Ask a question and stream the answer with its citations."),
    Entry(
        "feedback",
        "use_commands:feedback",
        "Judge an answer: a thumb, a correction, or a better answer.",
    ),
    Entry(
        "releases",
        "watch_commands:releases",
        "List the releases with their state and the reasons of the gate.",
    ),
    Entry("runs", "watch_commands:runs", "List the training runs, newest first."),
    Entry("alerts", "watch_commands:alerts", "List the alerts, newest first."),
    Entry("usage", "watch_commands:usage", "Sum tokens, cost and latency by release."),
    Entry(
        "budget",
        "watch_commands:budget",
        "Set the tenant's daily budget; spending above it raises an alert.",
    ),
    Entry(
        "topics",
        "mesh_commands:topics",
        "List the catalogue of topics; --create makes the missing ones on the broker.",
    ),
    Entry(
        "rebuild",
        "rebuild_command:rebuild",
        "Build a service's store again from the log and exchange it. "
        "Exit code 1 when --check finds a difference.",
    ),
    Entry(
        "trace",
        "trace_command:trace",
        "Show the spans of a trace as a tree: from an event to all that it caused.",
    ),
    Entry(
        "token",
        "watch_commands:token",
        "Mint a token with the local mesh's development key, for grpcurl or a producer.",
    ),
    Entry(
        "credentials",
        "credentials_command:credentials",
        "Make the mesh's key and TLS certificates under home; what is there and good stays.",
    ),
    Entry(
        "smoke",
        "smoke_command:smoke",
        "Prove a running mesh: a document, an answer from it, feedback that reaches the trainer.",
    ),
    Entry(
        "demo",
        "demo.command:demo",
        "Run the loop: ingest, ask, learn, gate, canary, promote, refuse, alert.",
    ),
    Entry("dlq", "dlq_commands:app", "Dead letters: list, show, replay, drop."),
    Entry("keys", "keys_commands:app", "The mesh's key: list, next, switch."),
)


def build() -> typer.Typer:
    """The command line with all its commands, none of them imported yet."""
    app = typer.Typer(
        cls=lazy_group(COMMANDS),
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    # Typer takes an application without commands of its own for one without a group.
    app.callback()(lambda: None)
    return app


def run() -> None:
    """Entry point of the console script."""
    # A broker that is not up yet is this program's to tell, not its library's.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        build()()
    except KeyboardInterrupt:
        sys.exit(130)
