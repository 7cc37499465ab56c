"""Which files become documents, and what is told about those that cannot."""

from pathlib import Path

import pytest

from tidemill.cli.documents import MAX_BYTES, collect
from tidemill.cli.output import CommandFailed


def test_a_folder_gives_known_files_named_by_their_relative_path(tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "vpn.md").write_text("# VPN")
    (tmp_path / "photo.png").write_bytes(b"x")
    (tmp_path / "Plan.PDF").write_bytes(b"x")
    found = {(f.document_id, f.media_type) for f in collect([tmp_path])}
    assert found == {("it/vpn", "text/markdown"), ("Plan", "application/pdf")}


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing.md", "FILE_NOT_FOUND"), ("photo.png", "MEDIA_TYPE_UNSUPPORTED")],
)
def test_a_file_that_cannot_be_submitted_is_the_users_to_change(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "photo.png").write_bytes(b"x")
    with pytest.raises(CommandFailed) as failed:
        collect([tmp_path / name])
    assert (failed.value.reason, failed.value.exit_code) == (reason, 2)


def test_an_oversized_file_is_named_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "big.txt"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(CommandFailed, match=r"DOCUMENT_TOO_LARGE: .*big\.txt"):
        collect([path])


def test_an_empty_folder_is_said_to_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="NO_DOCUMENTS"):
        collect([tmp_path])
