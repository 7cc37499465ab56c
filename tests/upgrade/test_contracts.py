"""Each release takes the other's events of every topic, with every field set that it knows."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.upgrade import exchange
from tests.upgrade.releases import Release, is_in_history
from tidemill import topics

SCRIPT = Path(exchange.__file__)

pytestmark = pytest.mark.skipif(not is_in_history(), reason="the history lacks the release before")


def run(release: Release, mode: str, said: str = "") -> list[str]:
    """Lines that the script prints under the other release's code."""
    done = subprocess.run(
        [release.python, SCRIPT, mode],
        cwd=release.root,
        env={},
        input=said,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def names(events: list[str]) -> list[str]:
    return [json.loads(event)["topic"] for event in events]


def test_the_release_before_takes_what_this_one_writes(previous: Release) -> None:
    events = list(exchange.write())
    told = list(zip(names(events), run(previous, "read", "\n".join(events)), strict=True))
    new = {name for name, verdict in told if verdict == exchange.UNKNOWN}
    assert new == {topics.FEEDBACK_SUBMITTED.name}
    assert {verdict for name, verdict in told if name not in new} == {"ok"}, told


def test_this_release_takes_what_the_one_before_writes(previous: Release) -> None:
    events = run(previous, "write")
    verdicts = list(exchange.read(events))
    assert set(verdicts) == {"ok"}, dict(zip(names(events), verdicts, strict=True))
    assert len(set(names(events))) == len(topics.CATALOGUE) - 1


def test_a_field_that_it_does_not_know_is_refused_where_outsiders_write(
    previous: Release,
) -> None:
    """So the two tests above would see an event that it cannot take."""
    events = [json.loads(event) for event in exchange.write()]
    for event in events:
        event["value"] += "980601"  # field 99
    known = [event for event in events if event["topic"] != topics.FEEDBACK_SUBMITTED.name]
    verdicts = run(previous, "read", "\n".join(json.dumps(event) for event in known))
    refused = {e["topic"] for e, v in zip(known, verdicts, strict=True) if v != "ok"}
    assert refused == {
        topics.DOCUMENTS_SUBMITTED.name,
        topics.DOCUMENTS_WITHDRAWN.name,
        topics.FEEDBACK_RECORDED.name,
    }
