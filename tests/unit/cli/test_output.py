"""What a program reads: one JSON document, whether the command did its work or not."""

import json

import pytest

from tidemill.cli.output import CommandFailed, Output


def test_an_error_stands_beside_what_was_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"documents": [{"document_id": "plan", "rejected": "DOCUMENT_BROKEN"}]}
    failed = CommandFailed("DOCUMENTS_REJECTED", "plan (DOCUMENT_BROKEN)", facts=facts)
    Output(json_mode=True).failure(failed)
    said = json.loads(capsys.readouterr().out)
    assert said == facts | {
        "error": {"reason": "DOCUMENTS_REJECTED", "hint": "plan (DOCUMENT_BROKEN)"}
    }


def test_people_get_the_reason_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json_mode=False).failure(CommandFailed("PORT_IN_USE", "set TIDEMILL_PORT_BASE"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "PORT_IN_USE" in captured.err
    assert "TIDEMILL_PORT_BASE" in captured.err
