"""Live answers and thumbs while a canary runs, in rows."""

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from services.evaluator.adapters.tables import CanaryAnswerRow, ReleaseRow, ThumbRow
from services.evaluator.domain.canary import Arm
from tidemill.bus import UnitOfWork
from tidemill.db import rows

KEPT = "evaluator.kept_answers"
"""Of a session: how many answers of a release there are."""


def add_answer(unit: UnitOfWork, row: CanaryAnswerRow, limit: int) -> None:
    """Keeps the answer, unless it is known or its release has as many as the limit."""
    session, key = unit.session, (row.tenant_id, row.answer_id)
    kept = _kept(session, row.tenant_id, row.release_id)
    if kept < limit and rows.find(session, CanaryAnswerRow, key) is None:
        rows.add(session, row, key)
        session.info[KEPT][row.tenant_id, row.release_id] = kept + 1


def _kept(session: Session, tenant_id: str, release_id: str) -> int:
    """How many answers of a release there are, counted once a transaction."""
    known: dict[tuple[str, str], int] = session.info.setdefault(KEPT, {})
    if (tenant_id, release_id) not in known:
        query = (
            select(func.count())
            .select_from(CanaryAnswerRow)
            .where(CanaryAnswerRow.tenant_id == tenant_id, CanaryAnswerRow.release_id == release_id)
        )
        known[tenant_id, release_id] = session.scalars(query).one()
    return known[tenant_id, release_id]


def set_thumb(unit: UnitOfWork, answer_id: str, up: bool, recorded_at: float) -> None:
    """The latest thumb counts, in whatever order they come."""
    key = (unit.tenant_id, answer_id)
    row = rows.find(unit.session, ThumbRow, key)
    if row is None:
        row = ThumbRow(tenant_id=unit.tenant_id, answer_id=answer_id, recorded_at=-1.0)
        rows.add(unit.session, row, key)
    if recorded_at >= row.recorded_at:
        row.up, row.recorded_at = up, recorded_at


def read_arm(session: Session, tenant_id: str, release_id: str) -> Arm:
    """The live answers of a release with the thumbs on them."""
    found = session.execute(
        select(
            CanaryAnswerRow.failed,
            CanaryAnswerRow.refused,
            CanaryAnswerRow.duration_seconds,
            ThumbRow.up,
        )
        .join_from(
            CanaryAnswerRow,
            ThumbRow,
            (ThumbRow.tenant_id == CanaryAnswerRow.tenant_id)
            & (ThumbRow.answer_id == CanaryAnswerRow.answer_id),
            isouter=True,
        )
        .where(CanaryAnswerRow.tenant_id == tenant_id, CanaryAnswerRow.release_id == release_id)
    )
    rows = found.all()
    return Arm(
        answers=len(rows),
        errors=sum(row.failed for row in rows),
        refusals=sum(row.refused for row in rows),
        durations=tuple(row.duration_seconds for row in rows if not row.failed),
        thumbs_up=sum(row.up is True for row in rows),
        thumbs_down=sum(row.up is False for row in rows),
    )


def forget_traffic(unit: UnitOfWork) -> None:
    """The canary is decided; its evidence is in the reasons, the answers are in the log."""
    for table in (CanaryAnswerRow, ThumbRow):
        unit.session.execute(delete(table).where(table.tenant_id == unit.tenant_id))
    unit.session.info.pop(KEPT, None)


def forget_earlier(session: Session, tenant_id: str, canary: ReleaseRow | None) -> None:
    """All of it without a canary, else what came before the canary or from another release."""
    answers = delete(CanaryAnswerRow).where(CanaryAnswerRow.tenant_id == tenant_id)
    thumbs = delete(ThumbRow).where(ThumbRow.tenant_id == tenant_id)
    if canary is not None:
        arms = (canary.release_id, canary.parent_id)
        answers = answers.where(CanaryAnswerRow.release_id.not_in(arms))
        thumbs = thumbs.where(ThumbRow.recorded_at < canary.changed_at)
    session.execute(answers)
    session.execute(thumbs)
