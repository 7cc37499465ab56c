"""Which refusal a document shows, in whatever order and however often submissions come."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

from services.ingest.adapters.store import DocumentRow, new_document
from services.ingest.handlers.events import note_accepted, note_refused

START = datetime(2026, 12, 1, tzinfo=UTC)


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def document() -> DocumentRow:
    return new_document("harbor", "leave", START)


def test_the_newest_refusal_is_shown_whatever_comes_again() -> None:
    for order in permutations([1, 2, 3, 1, 3]):
        row = document()
        for minute in order:
            note_refused(row, f"REASON_{minute}", at(minute))
        assert row.rejection_reason == "REASON_3"


def test_a_submission_takes_back_earlier_refusals_only() -> None:
    for order in permutations(["refused 1", "accepted 2", "refused 1"]):
        assert shown(*order) == ""
    for order in permutations(["accepted 1", "refused 2", "accepted 1"]):
        assert shown(*order) == "REFUSED"


def shown(*happened: str) -> str:
    row = document()
    for each in happened:
        what, minute = each.split()
        if what == "refused":
            note_refused(row, "REFUSED", at(int(minute)))
        else:
            note_accepted(row, at(int(minute)))
    return row.rejection_reason
