"""What ingest does with a submission, a withdrawal and the news that a version is searchable."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from services.ingest.adapters.originals import Originals, name_in_force, name_of
from services.ingest.adapters.preparation import Source
from services.ingest.adapters.reader import Reader
from services.ingest.adapters.store import (
    DocumentRow,
    VersionRow,
    content_hash_of,
    document_for_update,
    note_indexed,
    was_in_force,
)
from services.ingest.domain import versions
from services.ingest.domain.documents import Passage, Prepared, Rejected
from services.ingest.domain.submissions import (
    check_content,
    content_hash,
    invalid_field,
    parse_media_type,
)
from tidemill import topics
from tidemill.api.common.v1 import Chunk
from tidemill.api.events.v1 import (
    DocumentChunked,
    DocumentIndexed,
    DocumentRejected,
    DocumentRetired,
    DocumentSubmitted,
    DocumentWithdrawn,
)
from tidemill.bus import Delivery, UnitOfWork
from tidemill.db import Database
from tidemill.faults import Fault, Reason
from tidemill.ids import derived_id


@dataclass(frozen=True)
class Ingest:
    """What the use cases work with."""

    database: Database
    reader: Reader
    originals: Originals
    max_document_bytes: int


async def take_submission(ingest: Ingest, message: DocumentSubmitted, delivery: Delivery) -> None:
    """A new version, nothing when the content is known, or a rejection with its reason."""
    digest = content_hash(message.media_type, message.title, message.content)
    try:
        check(message, delivery.aggregate_id, ingest.max_document_bytes)
        prepared = await _prepare(ingest, message, delivery, digest)
    except Rejected as rejected:
        await _reject(message, delivery, rejected.reason)
        return
    if prepared is not None:
        original = name_of(delivery.tenant_id, message.document_id, delivery.event_id, digest)
        await ingest.originals.keep(original, message.content)

    def work(unit: UnitOfWork) -> str | None:
        """The original of the version that is in force no longer."""
        row = row_of(unit, message.document_id)
        replaced = name_in_force(row)
        outcome = versions.submit(row.standing, digest, delivery.time)
        if isinstance(outcome, versions.Overtaken):
            # In its own time it made a version, or changed nothing: then nobody refused it.
            if not was_in_force(unit.session, unit.tenant_id, row.document_id, digest):
                _note_rejection(unit, row, delivery, Reason.FAILED_PRECONDITION.value)
        elif isinstance(outcome, versions.NewVersion) and prepared is not None:
            _accept(unit, row, delivery, message, digest, prepared, outcome.version)
            return replaced
        elif isinstance(outcome, versions.NewVersion):
            # What was known a moment ago was withdrawn meanwhile: read it after all.
            raise Fault(Reason.OVERLOADED, detail="changed_meanwhile")
        else:
            note_accepted(row, delivery.time)
        return None

    await _drop(ingest, await delivery.apply(work))


async def _drop(ingest: Ingest, original: str | None) -> None:
    if original is not None:
        await ingest.originals.drop(original)


def check(message: DocumentSubmitted, aggregate_id: str, max_bytes: int) -> None:
    """Raises Rejected; Fault when the event does not even name its document properly."""
    check_id(message.document_id, aggregate_id)
    if invalid_field(message.document_id, message.title, message.source_uri):
        raise Rejected(Reason.INVALID_ARGUMENT.value)
    parse_media_type(message.media_type)
    check_content(message.content, max_bytes)


def check_id(document_id: str, aggregate_id: str) -> None:
    """The key orders a document's events, so it must be the document's. Raises Fault."""
    if invalid_field(document_id, "", "") or document_id != aggregate_id:
        raise Fault(Reason.INVALID_ARGUMENT, field="document_id")


async def _prepare(
    ingest: Ingest, message: DocumentSubmitted, delivery: Delivery, digest: str
) -> Prepared | None:
    """None when the content is in force already, so that reading it would be in vain."""
    in_force = await ingest.database.read(
        lambda session: content_hash_of(session, delivery.tenant_id, message.document_id)
    )
    if in_force == digest:
        return None
    source = Source(message.media_type, message.title, message.source_uri)
    return await ingest.reader.prepare(source, message.content)


async def _reject(message: DocumentSubmitted, delivery: Delivery, reason: str) -> None:
    def work(unit: UnitOfWork) -> None:
        _note_rejection(unit, row_of(unit, message.document_id), delivery, reason)

    await delivery.apply(work)


def row_of(unit: UnitOfWork, document_id: str) -> DocumentRow:
    return document_for_update(unit.session, unit.tenant_id, document_id, unit.clock.now())


def _note_rejection(unit: UnitOfWork, row: DocumentRow, delivery: Delivery, reason: str) -> None:
    """The earlier version, if any, stays in force."""
    note_refused(row, reason, delivery.time)
    row.update_time = unit.clock.now()
    unit.rejected = reason
    event = DocumentRejected(
        tenant_id=delivery.tenant_id,
        document_id=row.document_id,
        reason=reason,
        event_id=delivery.event_id,
    )
    event.submitted_time.FromDatetime(delivery.time)
    unit.publish(topics.DOCUMENTS_REJECTED, row.document_id, event)


def note_refused(row: DocumentRow, reason: str, time: datetime) -> None:
    """A document shows the refusal of what came last, not that of a submission which a newer one
    overtook."""
    if time >= max(row.submitted_time or time, row.rejected_time or time):
        row.rejection_reason, row.rejected_time = reason, time


def note_accepted(row: DocumentRow, time: datetime) -> None:
    """The refusal of an earlier submission is shown no longer."""
    row.submitted_time = max(row.submitted_time or time, time)
    if row.rejected_time is None or row.rejected_time <= row.submitted_time:
        row.rejection_reason = ""


def note_withdrawn(row: DocumentRow, time: datetime) -> None:
    row.withdrawn_time = max(row.withdrawn_time or time, time)


def _accept(
    unit: UnitOfWork,
    row: DocumentRow,
    delivery: Delivery,
    message: DocumentSubmitted,
    digest: str,
    prepared: Prepared,
    version: int,
) -> None:
    row.title, row.media_type = prepared.title, message.media_type[:200]
    note_accepted(row, delivery.time)
    new_version(unit, row, Version(version, digest, len(prepared.passages), delivery.event_id))
    event = DocumentChunked(
        tenant_id=unit.tenant_id,
        document_id=row.document_id,
        version=version,
        content_hash=digest,
        title=prepared.title,
        source_uri=prepared.source_uri,
        chunks=chunks(unit.tenant_id, row.document_id, version, prepared.passages),
        masked_count=prepared.masked_count,
        event_id=delivery.event_id,
        media_type=row.media_type,
    )
    event.submitted_time.FromDatetime(delivery.time)
    unit.publish(topics.DOCUMENTS_CHUNKED, row.document_id, event)


@dataclass(frozen=True)
class Version:
    """What an event made of a document. content_hash: empty for a withdrawal."""

    number: int
    content_hash: str
    chunk_count: int
    event_id: str


def new_version(unit: UnitOfWork, row: DocumentRow, made: Version) -> None:
    set_version(unit, row, made)
    keep_version(unit, row.document_id, made)


def set_version(unit: UnitOfWork, row: DocumentRow, made: Version) -> None:
    """The version becomes the document's newest."""
    row.version, row.content_hash = made.number, made.content_hash
    row.chunk_count, row.event_id = made.chunk_count, made.event_id
    row.update_time = unit.clock.now()


def keep_version(unit: UnitOfWork, document_id: str, made: Version) -> None:
    unit.session.add(
        VersionRow(
            tenant_id=unit.tenant_id,
            document_id=document_id,
            version=made.number,
            content_hash=made.content_hash,
            chunk_count=made.chunk_count,
            event_id=made.event_id,
            created_time=unit.clock.now(),
        )
    )


def chunks(
    tenant_id: str, document_id: str, version: int, passages: Iterable[Passage]
) -> list[Chunk]:
    """Ids are derived, so the same version read again gives the same ids."""
    return [
        Chunk(
            chunk_id=derived_id(tenant_id, document_id, str(version), str(ordinal), passage.text),
            document_id=document_id,
            version=version,
            ordinal=ordinal,
            headings=passage.headings,
            text=passage.text,
        )
        for ordinal, passage in enumerate(passages)
    ]


async def take_withdrawal(ingest: Ingest, message: DocumentWithdrawn, delivery: Delivery) -> None:
    """Takes a version and retires the document; one that nobody knows is remembered as gone."""
    check_id(message.document_id, delivery.aggregate_id)
    replaced = await delivery.apply(partial(_withdraw, message=message, delivery=delivery))
    await _drop(ingest, replaced)


def _withdraw(unit: UnitOfWork, message: DocumentWithdrawn, delivery: Delivery) -> str | None:
    """The original of the version that is in force no longer."""
    row = row_of(unit, message.document_id)
    outcome, replaced = versions.withdraw(row.standing, delivery.time), name_in_force(row)
    if isinstance(outcome, versions.Overtaken):
        return None
    note_withdrawn(row, delivery.time)
    if isinstance(outcome, versions.NewVersion):
        new_version(unit, row, Version(outcome.version, "", 0, delivery.event_id))
        event = DocumentRetired(
            tenant_id=unit.tenant_id,
            document_id=row.document_id,
            version=outcome.version,
            event_id=delivery.event_id,
        )
        event.withdrawn_time.FromDatetime(delivery.time)
        unit.publish(topics.DOCUMENTS_RETIRED, row.document_id, event)
    return replaced


async def take_indexed(message: DocumentIndexed, delivery: Delivery) -> None:
    """Events may come late or twice: the highest version seen decides."""
    await delivery.apply(partial(_note_indexed, message=message))


def _note_indexed(unit: UnitOfWork, message: DocumentIndexed) -> None:
    now, in_index = unit.clock.now(), 0 if message.retired else message.version
    key = unit.tenant_id, message.document_id
    if note_indexed(unit.session, key, message.version, in_index, now):
        return
    # The index knows more than these rows only while they are built again.
    row = row_of(unit, message.document_id)
    if message.version > row.seen_version:
        row.seen_version, row.indexed_version, row.update_time = message.version, in_index, now
