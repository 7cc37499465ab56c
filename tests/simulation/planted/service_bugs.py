"""Wrong variants of the services' own work."""

from functools import partial
from typing import Any

from sqlalchemy import select, update

from services.inference.adapters import store as inference_store
from services.inference.handlers import releases as inference_releases
from services.monitor.adapters import watches
from services.monitor.adapters.tables import AnswerRow, UsageRow
from services.monitor.handlers import counting
from services.retriever import consumer as retriever_consumer
from services.retriever.adapters.hits import find_index
from services.retriever.adapters.queries import in_force
from services.retriever.adapters.store import VersionRow
from services.retriever.handlers import indexing
from services.trainer.adapters import signals_store
from services.trainer.handlers import feedback as trainer_feedback
from tests.simulation.planted.bus_bugs import Place


def flip_first(right: Any) -> Any:
    """The version comes into force, then its vectors are written."""

    async def take_embedded(parts: Any, message: Any, delivery: Any) -> None:
        entities = indexing.check(message, delivery)
        collection = await indexing._stage(parts.bus, message, delivery.tenant_id)
        if collection is None:
            return
        await parts.vectors.create_collection(collection, message.embedding_model.dimensions)
        await delivery.apply(partial(indexing._take_into_force, message=message))
        await parts.vectors.upsert(collection, entities)

    return take_embedded


FLIP_FIRST: Place = (retriever_consumer, "take_embedded", flip_first)


def deleted_early(right: Any) -> Any:
    """Room is made for the new version's vectors before it is in force."""

    async def take_embedded(parts: Any, message: Any, delivery: Any) -> None:
        tenant, document = delivery.tenant_id, message.document_id
        query = select(VersionRow).where(*in_force(tenant), VersionRow.document_id == document)
        old, index = await parts.bus.database.read(
            lambda session: (session.scalar(query), find_index(session, tenant))
        )
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

        def look(session: Any) -> tuple[int, bool]:
            row = session.scalar(select(UsageRow).filter_by(**key))
            known = session.get(AnswerRow, (facts.tenant_id, facts.answer_id))
            return (row.answers if row else 0), known is not None

        before, known = await parts.database.read(look)
        await right(message, delivery, parts=parts)
        if not known:
            query = update(UsageRow).filter_by(**key).values(answers=before + 1)
            await parts.database.write(lambda session: session.execute(query).close())

    return count_answer


LOST_UPDATE: Place = (counting, "count_answer", lost_update)


def stale_release(right: Any) -> Any:
    """Whatever comes last is taken for the newest."""

    def save_release(session: Any, tenant_id: str, change: Any) -> bool:
        session.merge(inference_store._release_row(tenant_id, change))
        return True

    return save_release


STALE_RELEASE: Place = (inference_releases, "save_release", stale_release)


def early_feedback(right: Any) -> Any:
    """Feedback on an answer that nobody knows is taken for a mistake of the sender."""

    async def record_feedback(feedback: Any, delivery: Any, meter: Any) -> None:
        find = partial(
            signals_store.answer_row, tenant_id=delivery.tenant_id, answer_id=feedback.answer_id
        )
        answer = await delivery.commits.database.read(find)
        if answer is not None:
            await right(feedback, delivery, meter)

    return record_feedback


EARLY_FEEDBACK: Place = (trainer_feedback, "record_feedback", early_feedback)


def early_thumb(right: Any) -> Any:
    def keep_thumb(unit: Any, answer_id: str, up: bool, now: float) -> bool:
        if watches.counted_answer(unit, answer_id) is None:
            return False
        return bool(right(unit, answer_id, up, now))

    return keep_thumb


EARLY_THUMB: Place = (watches, "keep_thumb", early_thumb)
