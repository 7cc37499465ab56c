"""How ingest reads its versions back when its rows are built again; it reads no document again.

What it told of a submission or withdrawal has all that the rows hold, so they come back without
the submission itself, which the log keeps for days only. What became of an event is on the log
under an id that follows from the event's own: submissions that are still there are known by it,
and one that nothing was told of is left to the service.
"""

from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.ingest.adapters.originals import Originals, name_of
from services.ingest.adapters.store import (
    DocumentRow,
    RequestRow,
    VersionRow,
    find_document,
)
from services.ingest.domain import versions
from services.ingest.domain.submissions import content_hash
from services.ingest.handlers.calls import fingerprint_of
from services.ingest.handlers.events import (
    Version,
    check_id,
    keep_version,
    note_accepted,
    note_refused,
    note_withdrawn,
    row_of,
    set_version,
)
from tidemill import topics
from tidemill.api.events.v1 import (
    DocumentChunked,
    DocumentRejected,
    DocumentRetired,
    DocumentSubmitted,
    DocumentWithdrawn,
)
from tidemill.bus import Delivery, UnitOfWork
from tidemill.bus.consumer import Sender
from tidemill.bus.envelope import Record, decode
from tidemill.bus.unit import published_id
from tidemill.db import Database
from tidemill.faults import Fault
from tidemill.ids import is_derived
from tidemill.rebuild.digests import table_hash
from tidemill.timestamps import utc_time
from tidemill.topics import M, Topic

OWN_SOURCE = "tidemill/ingest"
NEWEST = (
    VersionRow.tenant_id == DocumentRow.tenant_id,
    VersionRow.document_id == DocumentRow.document_id,
    VersionRow.version == DocumentRow.version,
)
TIMES = ("update_time", "submitted_time", "withdrawn_time", "rejected_time")
"""Of a document, not compared: a submission that changed nothing moves one of them, and is on the
log for days only."""


@dataclass
class Told:
    """What ingest told, by the id of the event. early: versions that were told by a release which
    left their event and time out."""

    accepted: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    early: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Rebuilding:
    """What the use cases work with."""

    database: Database
    told: Told
    originals: Originals

    def read_chunked(self, message: DocumentChunked, record: Record, unit: UnitOfWork) -> None:
        self.told.accepted[record.event_id] = message.version
        made = Version(message.version, message.content_hash, len(message.chunks), message.event_id)
        row = restored(unit, message.document_id, made)
        if row.version == message.version:
            row.title, row.media_type = message.title, message.media_type
        if message.HasField("submitted_time"):
            note_accepted(row, utc_time(message, "submitted_time"))
        else:
            self.told.early.add(record.event_id)

    def read_rejected(self, message: DocumentRejected, record: Record, unit: UnitOfWork) -> None:
        self.told.rejected[record.event_id] = message.reason
        if message.HasField("submitted_time"):
            row = row_of(unit, message.document_id)
            note_refused(row, message.reason, utc_time(message, "submitted_time"))

    def read_retired(self, message: DocumentRetired, record: Record, unit: UnitOfWork) -> None:
        self.told.accepted[record.event_id] = message.version
        row = restored(unit, message.document_id, Version(message.version, "", 0, message.event_id))
        if message.HasField("withdrawn_time"):
            note_withdrawn(row, utc_time(message, "withdrawn_time"))
        else:
            self.told.early.add(record.event_id)

    async def retake_submission(self, message: DocumentSubmitted, delivery: Delivery) -> None:
        """As it was told; what was not told changed nothing but its time."""
        check_id(message.document_id, delivery.aggregate_id)
        submitted = topics.DOCUMENTS_SUBMITTED
        chunked = told_id(delivery.event_id, delivery.key, submitted, topics.DOCUMENTS_CHUNKED)
        refused = told_id(delivery.event_id, delivery.key, submitted, topics.DOCUMENTS_REJECTED)
        digest = content_hash(message.media_type, message.title, message.content)
        if chunked in self.told.accepted:
            await self._keep_original(message, delivery, self.told.accepted[chunked], digest)

        def work(unit: UnitOfWork) -> None:
            remember(unit, submitted, message, delivery)
            row = row_of(unit, message.document_id)
            if chunked in self.told.early:
                self._name(unit, row, chunked, delivery)
                if row.version == self.told.accepted[chunked]:
                    row.media_type = message.media_type[:200]
            if chunked in self.told.accepted:
                note_accepted(row, delivery.time)
            elif refused in self.told.rejected:
                unit.rejected = self.told.rejected[refused]
                note_refused(row, unit.rejected, delivery.time)
            elif row.content_hash == digest:
                note_accepted(row, delivery.time)

        await delivery.apply(work)

    async def _keep_original(
        self, message: DocumentSubmitted, delivery: Delivery, version: int, digest: str
    ) -> None:
        """Releases before this one left it on the log alone."""
        tenant, document = delivery.tenant_id, message.document_id
        if (await self._standing(tenant, document)).version == version:
            name = name_of(tenant, document, delivery.event_id, digest)
            await self.originals.keep(name, message.content)

    def _name(self, unit: UnitOfWork, row: DocumentRow, told: str, delivery: Delivery) -> None:
        """The event that made a version."""
        version = self.told.accepted[told]
        made = unit.session.get(VersionRow, (unit.tenant_id, row.document_id, version))
        if made is not None:
            made.event_id = delivery.event_id
        if row.version == version:
            row.event_id = delivery.event_id

    async def retake_withdrawal(self, message: DocumentWithdrawn, delivery: Delivery) -> None:
        check_id(message.document_id, delivery.aggregate_id)
        withdrawn = topics.DOCUMENTS_WITHDRAWN
        retired = told_id(delivery.event_id, delivery.key, withdrawn, topics.DOCUMENTS_RETIRED)

        def work(unit: UnitOfWork) -> None:
            remember(unit, withdrawn, message, delivery)
            row = row_of(unit, message.document_id)
            outcome = versions.withdraw(row.standing, delivery.time)
            if retired in self.told.early:
                self._name(unit, row, retired, delivery)
            if retired in self.told.accepted or isinstance(outcome, versions.Unchanged):
                note_withdrawn(row, delivery.time)

        await delivery.apply(work)

    async def leaves_submission(self, record: Record, sender: Sender) -> bool:
        """What nothing was told of and would be a new version: it waits, or its event was lost."""
        submitted = topics.DOCUMENTS_SUBMITTED
        for topic, told in (
            (topics.DOCUMENTS_CHUNKED, self.told.accepted),
            (topics.DOCUMENTS_REJECTED, self.told.rejected),
        ):
            if told_id(record.event_id, sender.key, submitted, topic) in told:
                return False
        message = readable(submitted, record, sender)
        if message is None:
            return False
        digest = content_hash(message.media_type, message.title, message.content)
        standing = await self._standing(sender.tenant_id, sender.aggregate_id)
        outcome = versions.submit(standing, digest, record.time)
        return isinstance(outcome, versions.NewVersion)

    async def leaves_withdrawal(self, record: Record, sender: Sender) -> bool:
        withdrawn = topics.DOCUMENTS_WITHDRAWN
        if (
            told_id(record.event_id, sender.key, withdrawn, topics.DOCUMENTS_RETIRED)
            in self.told.accepted
        ):
            return False
        if readable(withdrawn, record, sender) is None:
            return False
        standing = await self._standing(sender.tenant_id, sender.aggregate_id)
        outcome = versions.withdraw(standing, record.time)
        return isinstance(outcome, versions.NewVersion)

    async def _standing(self, tenant_id: str, document_id: str) -> versions.Standing:
        row = await self.database.read(
            lambda session: find_document(session, tenant_id, document_id)
        )
        return row.standing if row is not None else versions.Standing()

    async def settle(self) -> None:
        """Versions of before whose submission is no longer on the log count from when they were
        told."""
        await self.database.write(date_early)


def restored(unit: UnitOfWork, document_id: str, made: Version) -> DocumentRow:
    """The document's row, with a version that may have been told twice."""
    row = row_of(unit, document_id)
    if unit.session.get(VersionRow, (unit.tenant_id, document_id, made.number)) is None:
        keep_version(unit, document_id, made)
    if made.number > row.version:
        set_version(unit, row, made)
    return row


def date_early(session: Session) -> None:
    """Sets the times that no event told."""
    for row, made in session.execute(select(DocumentRow, VersionRow).where(*NEWEST)):
        if row.content_hash and row.submitted_time is None:
            row.submitted_time = made.created_time
        if not row.content_hash and row.withdrawn_time is None:
            row.withdrawn_time = made.created_time


def readable(topic: Topic[M], record: Record, sender: Sender) -> M | None:
    """The message; None when the consumer is going to park it."""
    try:
        message = decode(topic, record)
        check_id(message.document_id, sender.aggregate_id)  # type: ignore[attr-defined]
    except Fault:
        return None
    return message


def told_id(event_id: str, key: str, cause: Topic[Any], told: Topic[Any]) -> str:
    """Of the event that ingest tells because of another. key: that of both."""
    return published_id(f"ingest/{cause.name}", event_id, told.name, key)


def remember(unit: UnitOfWork, topic: Topic[Any], message: Message, delivery: Delivery) -> None:
    """The call that the event came from, if it named itself."""
    if delivery.record.headers.get("ce_source") != OWN_SOURCE or not is_derived(delivery.event_id):
        return
    unit.session.add(
        RequestRow(
            tenant_id=unit.tenant_id,
            event_id=delivery.event_id,
            fingerprint=fingerprint_of(topic.name, message),
        )
    )


async def digests(database: Database) -> dict[str, str]:
    """Documents and their versions, without times."""
    return await database.read(
        lambda session: {
            "documents": table_hash(session, DocumentRow, TIMES),
            "requests": table_hash(session, RequestRow),
            "versions": table_hash(session, VersionRow, ("created_time",)),
        }
    )
