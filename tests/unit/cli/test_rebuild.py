"""The rebuild command on a home that it may not write to."""

from pathlib import Path

import pytest

from tidemill.cli.context import Context
from tidemill.cli.output import CommandFailed, Output
from tidemill.cli.rebuild_command import open_log
from tidemill.settings import MeshSettings


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    context = Context(MeshSettings(home=tmp_path), "acme", Output(json_mode=False))
    with pytest.raises(CommandFailed, match="HOME_NOT_WRITABLE"):
        open_log(context, "ingest")
