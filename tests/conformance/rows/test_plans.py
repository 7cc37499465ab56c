"""What is asked often reads what it needs by an index, on both databases."""

from datetime import UTC, datetime

import numpy as np
from sqlalchemy import insert

from services.monitor.adapters import questions
from services.monitor.adapters import tables as monitor
from services.monitor.settings import DriftRules
from services.retriever.adapters import store as retriever
from services.retriever.adapters import versions
from services.trainer.adapters import signals_store
from services.trainer.adapters import store as trainer
from tests.conformance.rows.plans import noting, plan_of
from tests.tables import create_tables
from tidemill.db import Database

NOW = datetime(2026, 11, 22, tzinfo=UTC)
MANY = 3_000


async def test_the_version_of_a_document_is_found_by_the_document(database: Database) -> None:
    await create_tables(database, retriever.Base.metadata)
    rows = [
        {
            "tenant_id": "acme", "version_key": n, "document_id": f"d{n}", "version": 1,
            "title": "", "source_uri": "", "chunk_count": 1, "staged_time": NOW, "from_revision": n,
        }
        for n in range(MANY)
    ]  # fmt: skip
    async with database.transaction() as session:
        await session.execute(insert(retriever.VersionRow), rows)
    plan = await plan_of(database, lambda s: versions.end_version_in_force(s, "acme", "d7", 1, NOW))
    assert "versions_by_document" in plan


async def test_news_are_counted_without_reading_what_runs_have_taken(database: Database) -> None:
    await create_tables(database, trainer.Base.metadata)
    rows = [
        {
            "tenant_id": f"t{n % 7}", "feedback_id": f"f{n}", "answer_id": f"a{n}",
            "kind": "thumb_up", "text": "", "unanswerable": False, "document_ids": "[]",
            "other": "", "recorded_time": NOW, "received_time": NOW, "traceparent": "",
            "state": "usable", "run_id": "run_1" if n > 20 else "",
        }
        for n in range(MANY)
    ]  # fmt: skip
    async with database.transaction() as session:
        await session.execute(insert(trainer.FeedbackRow), rows)
    plan = await plan_of(database, lambda s: signals_store.news(s, 1))
    assert "feedback_by_run" in plan
    news = await database.read(lambda session: signals_store.news(session, 3))
    assert news == [(f"t{n}", 3) for n in range(7)]


async def test_a_tenant_without_a_test_left_has_no_embedding_read(database: Database) -> None:
    await create_tables(database, monitor.Base.metadata)
    rules = DriftRules(reference=40, window=20, stride=1)
    vector, seen = np.ones(4, "<f4").tobytes(), rules.reference + rules.window
    async with database.transaction() as session:
        for tenant, left in (("spent", 0.5), ("rested", 1.0)):
            session.add(
                monitor.DriftRow(
                    tenant_id=tenant, dimensions=4, seen=seen, tested=0, alarmed=False,
                    permits_left=left, permits_at=0.0,
                )
            )  # fmt: skip
            session.add_all(
                monitor.QuestionRow(tenant_id=tenant, place=n + 1, vector=vector, asked_at=n)
                for n in range(seen)
            )
    asked: list[tuple[str, object]] = []
    async with noting(database, asked):
        cases = await database.read(lambda s: questions.cases_due(s, rules, now=0.0))
    assert [case.tenant_id for case in cases] == ["rested"]
    read = [parameters for statement, parameters in asked if "FROM questions" in statement]
    assert len(read) == 2, "reference and window of the tenant that has a test left"
    assert "spent" not in str(read)
    later = 3_600.0 / rules.tests_per_hour
    due = await database.read(lambda s: questions.cases_due(s, rules, now=later))
    assert len(due) == 2
