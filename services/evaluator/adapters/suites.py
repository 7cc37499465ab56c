"""Held-out suites in rows."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.evaluator.adapters.tables import SuiteRow
from services.evaluator.domain.suites import Sample, suite_hash
from tidemill.api.events.v1 import HeldOutSample, SuiteStored
from tidemill.bus import UnitOfWork


@dataclass(frozen=True)
class Suite:
    """A stored suite."""

    suite_id: str
    suite_hash: str
    samples: tuple[Sample, ...]


def store_suite(unit: UnitOfWork, suite_id: str, samples: Sequence[Sample], at: float) -> str:
    """Makes the suite the tenant's newest; the same content again is the same row."""
    digest = suite_hash(samples)
    row = unit.session.get(SuiteRow, (unit.tenant_id, digest))
    if row is None:
        text = json.dumps([asdict(sample) for sample in samples])
        row = SuiteRow(tenant_id=unit.tenant_id, suite_hash=digest, samples=text)
        unit.session.add(row)
    row.suite_id, row.stored_at = suite_id, at
    return digest


def stored_event(
    tenant_id: str, suite_id: str, digest: str, samples: Sequence[Sample]
) -> SuiteStored:
    """The event without its time."""
    told = [
        HeldOutSample(
            sample_id=sample.sample_id,
            question=sample.question,
            answer=sample.answer,
            document_ids=sample.document_ids,
        )
        for sample in samples
    ]
    return SuiteStored(tenant_id=tenant_id, suite_id=suite_id, suite_hash=digest, samples=told)


def newest_suite(session: Session, tenant_id: str) -> Suite | None:
    found = session.scalar(
        select(SuiteRow)
        .where(SuiteRow.tenant_id == tenant_id)
        .order_by(SuiteRow.stored_at.desc())
        .limit(1)
    )
    return _suite_of(found) if found else None


def suite_named(session: Session, tenant_id: str, suite_id: str) -> Suite | None:
    """The newest suite of that name."""
    found = session.scalar(
        select(SuiteRow)
        .where(SuiteRow.tenant_id == tenant_id, SuiteRow.suite_id == suite_id)
        .order_by(SuiteRow.stored_at.desc())
        .limit(1)
    )
    return _suite_of(found) if found else None


def _suite_of(row: SuiteRow) -> Suite:
    samples = tuple(
        Sample(**(sample | {"document_ids": tuple(sample["document_ids"])}))
        for sample in json.loads(row.samples)
    )
    return Suite(row.suite_id, row.suite_hash, samples)
