"""Live answers and thumbs while a canary runs, in rows."""

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.evaluator.adapters.tables import CanaryAnswerRow, ReleaseRow, ThumbRow
from services.evaluator.domain.canary import Arm
from tidemill.bus import Unit


async def add_answer(unit: Unit, row: CanaryAnswerRow, limit: int) -> None:
    """Keeps the answer, unless it is known or its release has as many as the limit."""
    known = await unit.session.get(CanaryAnswerRow, (row.tenant_id, row.answer_id))
    kept = await unit.session.scalar(
        select(func.count())
        .select_from(CanaryAnswerRow)
        .where(
            CanaryAnswerRow.tenant_id == row.tenant_id,
            CanaryAnswerRow.release_id == row.release_id,
        )
    )
    if known is None and int(kept or 0) < limit:
        unit.session.add(row)


async def set_thumb(unit: Unit, answer_id: str, up: bool, recorded_at: float) -> None:
    """The latest thumb counts, in whatever order they come."""
    row = await unit.session.get(ThumbRow, (unit.tenant_id, answer_id))
    if row is None:
        row = ThumbRow(tenant_id=unit.tenant_id, answer_id=answer_id, recorded_at=-1.0)
        unit.session.add(row)
    if recorded_at >= row.recorded_at:
        row.up, row.recorded_at = up, recorded_at


async def read_arm(session: AsyncSession, tenant_id: str, release_id: str) -> Arm:
    """The live answers of a release with the thumbs on them."""
    found = await session.execute(
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


async def forget_traffic(unit: Unit) -> None:
    """The canary is decided; its evidence is in the reasons, the answers are in the log."""
    for table in (CanaryAnswerRow, ThumbRow):
        await unit.session.execute(delete(table).where(table.tenant_id == unit.tenant_id))


async def forget_earlier(session: AsyncSession, tenant_id: str, canary: ReleaseRow | None) -> None:
    """All of it without a canary, else what came before the canary or from another release."""
    answers = delete(CanaryAnswerRow).where(CanaryAnswerRow.tenant_id == tenant_id)
    thumbs = delete(ThumbRow).where(ThumbRow.tenant_id == tenant_id)
    if canary is not None:
        arms = (canary.release_id, canary.parent_id)
        answers = answers.where(CanaryAnswerRow.release_id.not_in(arms))
        thumbs = thumbs.where(ThumbRow.recorded_at < canary.changed_at)
    await session.execute(answers)
    await session.execute(thumbs)
