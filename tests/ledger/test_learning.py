"""The ledger finds answers, feedback and releases whole, and names each way to break them."""

import logging
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.lane import LEARNING, Lane
from tests.faults.load import learning
from tests.faults.nursery import Nursery
from tests.ledger.audit import audit
from tests.ledger.facts import Accepted
from tests.ledger.report import Report, assert_whole
from tidemill import topics
from tidemill.api.events.v1 import AdapterTrained

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRAINED = AdapterTrained(
    tenant_id="harbor", adapter="harbor-v1", artifact_uri="file:///nowhere", artifact_hash="ab" * 32
)


@dataclass(frozen=True)
class Done:
    """A mesh that did its work and was stopped; the broker runs."""

    bootstrap: str
    home: Path
    accepted: dict[str, Accepted]

    async def audit(self, home: Path) -> Report:
        return await audit(self.bootstrap, home, LEARNING.services, self.accepted, vectors=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def done(tmp_path_factory: Any) -> AsyncIterator[Done]:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    folder = tmp_path_factory.mktemp("learning")
    sent = iter([(topics.ADAPTERS_TRAINED, "harbor", "harbor-v1", TRAINED)])
    plan = replace(LEARNING, mix=lambda seed, n: next(sent, None) or learning(seed, n))
    async with (
        Nursery(plan.services) as nursery,
        Lane(plan, folder, nursery, random.Random(2)) as lane,
    ):
        await lane.load.burst(80)
        await lane.check()
        for service in plan.services:
            await lane.children[service].stop()
        yield Done(lane.settings.kafka_address, lane.settings.home, lane.load.accepted)


async def test_it_is_whole_with_every_event_applied(done: Done) -> None:
    report = await done.audit(done.home)
    assert_whole(report)
    assert (report.acked, report.applied) == (80, 80)


DAMAGE = {
    "an answer is not counted": (
        "monitor",
        "DELETE FROM answers WHERE rowid = 1",
        "lost: answer of the monitor:",
    ),
    "usage counts double": (
        "monitor",
        "UPDATE usage SET answers = answers + 1 WHERE rowid = 1",
        "doubled: usage: answers:",
    ),
    "spend is missing": (
        "monitor",
        "UPDATE spend SET cost_micros = cost_micros - 1 WHERE rowid = 1",
        "lost: spend of a day:",
    ),
    "a question counts double": (
        "monitor",
        "UPDATE drift SET seen = seen + 1 WHERE rowid = 1",
        "doubled: questions of the drift watch:",
    ),
    "a thumb is lost": (
        "monitor",
        "DELETE FROM thumbs WHERE rowid = 1",
        "lost: thumb:",
    ),
    "an alert was never told": (
        "monitor",
        "INSERT INTO alerts (tenant_id, alert_id, content) VALUES ('harbor', 'silent', x'00')",
        "lost: AlertRaised:",
    ),
    "feedback is lost": (
        "trainer",
        "DELETE FROM feedback WHERE rowid = 1",
        "lost: feedback of the trainer:",
    ),
    "an answer came from nowhere": (
        "trainer",
        "INSERT INTO answers SELECT tenant_id, 'no-such', user_hash, prompt, completion, "
        "passages, refused, evaluation FROM answers WHERE rowid = 1",
        "unexplained: answer of the trainer:",
    ),
    "feedback waits although its answer is there": (
        "trainer",
        "UPDATE feedback SET state = 'waiting' WHERE state != 'waiting'",
        "lost: verdict on feedback:",
    ),
    "an adapter was forgotten": (
        "evaluator",
        "DELETE FROM releases WHERE release_id = 'rel_harbor-v1'",
        "lost: place of a trained adapter:",
    ),
    "an adapter waits and is a release": (
        "evaluator",
        "INSERT INTO waiting_adapters VALUES ('harbor', 'harbor-v1', x'00', 0, '')",
        "doubled: place of a trained adapter:",
    ),
    "an epoch was never told": (
        "evaluator",
        "UPDATE ledgers SET epoch = epoch + 1 WHERE tenant_id = 'harbor'",
        "lost: ReleaseChanged of an epoch:",
    ),
    "two releases are in force": (
        "evaluator",
        "UPDATE releases SET state = 'PROMOTED' WHERE tenant_id = 'harbor'",
        "doubled: release ledger:",
    ),
    "inference missed a change": (
        "inference",
        "UPDATE releases SET epoch = epoch - 1 WHERE rowid = 1",
        "lost: release that inference follows:",
    ),
    "an answer was never told": (
        "inference",
        "INSERT INTO answers VALUES ('harbor', 'silent', 'r', 'p', '', 'q', 't', '[]', 0, '', "
        "'stop', 1, 1, 1, 1.0, '2026-01-01', '')",
        "lost: AnswerGenerated of an answer:",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_damage_is_named(done: Done, tmp_path: Path, damage: str) -> None:
    service, statement, start = DAMAGE[damage]
    home = Path(shutil.copytree(done.home, tmp_path / "home"))
    with sqlite3.connect(home / service / "rows.db") as rows:
        assert rows.execute(statement).rowcount > 0, "the damage must be done"
    report = await done.audit(home)
    assert any(str(each).startswith(start) for each in report.disagreements), str(report)
