"""What commands print: text for people, JSON for programs, errors that say what to change."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tidemill.faults import Fault, Reason

HINTS: Mapping[Reason, str] = {
    Reason.DEPENDENCY_UNAVAILABLE: "the mesh or a part of it does not answer; "
    "run `tidemill status`, and `tidemill up` to start it",
    Reason.DEADLINE_EXCEEDED: "the mesh took too long; run `tidemill status`",
    Reason.TOKEN_INVALID: "the token is not valid here; is TIDEMILL_HOME the mesh's folder?",
    Reason.ANSWER_NOT_FOUND: "no such answer in this tenant; `tidemill ask` prints answer ids",
    Reason.DOCUMENT_NOT_FOUND: "no such document in this tenant",
    Reason.MEDIA_TYPE_UNSUPPORTED: "use Markdown, HTML, plain text, PDF or DOCX",
    Reason.DOCUMENT_TOO_LARGE: "split the document; the limit is 10 MiB",
    Reason.DOCUMENT_EMPTY: "the document holds no text",
    Reason.DOCUMENT_BROKEN: "the file is not what its type says; open and save it again",
    Reason.ENCODING_INVALID: "save the text as UTF-8, or name its charset in the media type",
    Reason.OVERLOADED: "too much is waiting; try again in a moment",
    Reason.ADAPTER_UNAVAILABLE: "the release's adapter is not loaded yet; try again in a moment",
    Reason.STORAGE_FULL: "free space on the disk of TIDEMILL_HOME; what was sent is not lost",
    Reason.RELEASE_NOT_FOUND: "no such release in this tenant; see `tidemill releases`",
    Reason.SCOPE_MISSING: "the token may not do this; see `tidemill token --help`",
    Reason.INTERNAL: "a bug; the log of the service under TIDEMILL_HOME/logs has the place",
}


class CommandFailed(Exception):
    """A command could not do its work. exit_code: 2 when the user must change the call.

    facts: what it found out nevertheless; with --json they stand beside the error, as a program
    reads one document and not two.
    """

    def __init__(
        self, reason: str, hint: str, exit_code: int = 1, facts: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(f"{reason}: {hint}")
        self.reason = reason
        self.hint = hint
        self.exit_code = exit_code
        self.facts = dict(facts or {})


def failure_of(fault: Fault) -> CommandFailed:
    details = ", ".join(f"{k}={v}" for k, v in sorted(fault.metadata.items()))
    hint = HINTS.get(fault.reason, "see `tidemill COMMAND --help`")
    return CommandFailed(fault.reason.value, f"{hint} ({details})" if details else hint)


class Output:
    """Prints for people, or one JSON document when json is set."""

    def __init__(self, json_mode: bool = False) -> None:
        self.json_mode = json_mode
        # Into a file or a pipe a table is never cut.
        width = None if sys.stdout.isatty() else 200
        self.console = Console(stderr=False, highlight=False, soft_wrap=True, width=width)
        self.progress = Console(stderr=True, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Progress; on stderr, so that stdout stays the result."""
        if not self.json_mode:
            self.progress.print(text)

    def line(self, text: str) -> None:
        if not self.json_mode:
            self.console.print(text, markup=False)

    def raw(self, text: str) -> None:
        """Text as it comes, for streams."""
        if not self.json_mode:
            sys.stdout.write(text)
            sys.stdout.flush()

    def document(self, value: Any) -> None:
        if self.json_mode:
            sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        if self.json_mode:
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(str(cell) for cell in row))
        self.console.print(table)

    def failure(self, failed: CommandFailed) -> None:
        if self.json_mode:
            error = failed.facts | {"error": {"reason": failed.reason, "hint": failed.hint}}
            sys.stdout.write(json.dumps(error) + "\n")
        else:
            self.progress.print(f"error: {failed.reason}: {failed.hint}", markup=False)
