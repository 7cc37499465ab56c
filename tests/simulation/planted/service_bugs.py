"""Wrong variants of the services' own work."""

from typing import Any

from sqlalchemy import select, update

from services.inference.adapters import store as inference_store
from services.inference.handlers import releases as inference_releases
from services.monitor.adapters import watches
from services.monitor.adapters.tables import AnswerRow, UsageRow
from services.monitor.handlers import counting
from services.retriever import consumer as retriever_consumer
from services.retriever.handlers import indexing
from services.trainer.adapters import signals_store
from services.trainer.handlers import feedback as trainer_feedback
from tests.simulation.planted.bus_bugs import Place


def flip_first(right: Any) -> Any:
    """The version comes into force, then its vectors are written."""

    async def take_embedded(parts: Any, message: Any, delivery: Any) -> None:
        entities = indexing.check(message, delivery)
        collection = await indexing._stage(parts.bus, message, delivery.tenant_id)
        await parts.vectors.create_collection(collection, message.embedding_model.dimensions)
        async with delivery.apply() as unit:
            revision = await indexing.next_revision(unit.session, unit.tenant_id)
            taken = await indexing._take_version(
                unit, message.document_id, message.version, retired=False
            )
            if taken:
                await indexing._end_version_in_force(unit, message.document_id, revision)
                await indexing._bring_into_force(unit, message, revision)
        await parts.vectors.upsert(collection, entities)

    return take_embedded


FLIP_FIRST: Place = (retriever_consumer, "take_embedded", flip_first)


def deleted_early(right: Any) -> Any:
    """Room is made for the new version's vectors before it is in force."""

    async def take_embedded(parts: Any, message: Any, delivery: Any) -> None:
        async with parts.bus.database.session() as session:
            old = await indexing.version_in_force(session, delivery.tenant_id, message.document_id)
            index = await indexing.find_index(session, delivery.tenant_id)
        if old is not None and index is not None and old.version < message.version:
            await parts.vectors.delete_versions(index.collection, [old.version_key])
        await right(parts, message, delivery)

    return take_embedded


DELETED_EARLY: Place = (retriever_consumer, "take_embedded", deleted_early)


def lost_update(right: Any) -> Any:
    """The sum is read before the transaction that writes it."""

    async def count_answer(message: Any, delivery: Any, *, parts: Any) -> None:
        facts = counting.facts_of(message)
        key = {"tenant_id": facts.tenant_id, "release_id": facts.release_id}
        async with parts.database.session() as session:
            row = await session.scalar(select(UsageRow).filter_by(**key))
            before = row.answers if row else 0
            known = await session.get(AnswerRow, (facts.tenant_id, facts.answer_id))
        await right(message, delivery, parts=parts)
        if known is None:
            async with parts.database.transaction() as session:
                query = update(UsageRow).filter_by(**key)
                await session.execute(query.values(answers=before + 1))

    return count_answer


LOST_UPDATE: Place = (counting, "count_answer", lost_update)


def stale_release(right: Any) -> Any:
    """Whatever comes last is taken for the newest."""

    async def save_release(session: Any, tenant_id: str, change: Any) -> bool:
        await session.merge(inference_store._release_row(tenant_id, change))
        return True

    return save_release


STALE_RELEASE: Place = (inference_releases, "save_release", stale_release)


def early_feedback(right: Any) -> Any:
    """Feedback on an answer that nobody knows is taken for a mistake of the sender."""

    async def record_feedback(feedback: Any, delivery: Any, meter: Any) -> None:
        async with delivery.database.session() as session:
            answer = await signals_store.answer_row(session, delivery.tenant_id, feedback.answer_id)
        if answer is not None:
            await right(feedback, delivery, meter)

    return record_feedback


EARLY_FEEDBACK: Place = (trainer_feedback, "record_feedback", early_feedback)


def early_thumb(right: Any) -> Any:
    async def keep_thumb(unit: Any, answer_id: str, up: bool, now: float) -> bool:
        if await watches.counted_answer(unit, answer_id) is None:
            return False
        return bool(await right(unit, answer_id, up, now))

    return keep_thumb


EARLY_THUMB: Place = (watches, "keep_thumb", early_thumb)
