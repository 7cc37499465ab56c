"""How ingest reads its versions back when its rows are built again; it reads no document again.

What became of a submission is on the log under an id that follows from the submission's own. So a
version keeps its number and its passages, whatever this program would make of the document today.
"""

from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from services.ingest.adapters.store import DocumentRow, RequestRow, VersionRow, find_document
from services.ingest.domain import versions
from services.ingest.domain.submissions import content_hash
from services.ingest.handlers.calls import fingerprint_of
from services.ingest.handlers.events import (
    check_id,
    new_version,
    note_accepted,
    note_refused,
    row_of,
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
from tidemill.topics import M, Topic

OWN_SOURCE = "tidemill/ingest"


@dataclass(frozen=True)
class Accepted:
    """A version that a submission or a withdrawal made; empty hash for a withdrawal."""

    version: int
    content_hash: str = ""
    title: str = ""
    chunk_count: int = 0


@dataclass
class Told:
    """What ingest told: by the id of the event, and the highest version of each document."""

    accepted: dict[str, Accepted] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    highest: dict[tuple[str, str], int] = field(default_factory=dict)

    def accept(self, event_id: str, tenant_id: str, document_id: str, made: Accepted) -> None:
        self.accepted[event_id] = made
        key = (tenant_id, document_id)
        self.highest[key] = max(made.version, self.highest.get(key, 0))


@dataclass(frozen=True)
class Rebuilding:
    """What the use cases work with."""

    database: Database
    told: Told

    def read_chunked(self, message: DocumentChunked, record: Record, unit: UnitOfWork) -> None:
        made = Accepted(message.version, message.content_hash, message.title, len(message.chunks))
        self.told.accept(record.event_id, message.tenant_id, message.document_id, made)

    def read_retired(self, message: DocumentRetired, record: Record, unit: UnitOfWork) -> None:
        made = Accepted(message.version)
        self.told.accept(record.event_id, message.tenant_id, message.document_id, made)

    def read_rejected(self, message: DocumentRejected, record: Record, unit: UnitOfWork) -> None:
        self.told.rejected[record.event_id] = message.reason

    async def retake_submission(self, message: DocumentSubmitted, delivery: Delivery) -> None:
        """As it was told; what was not told changed nothing but its time."""
        check_id(message.document_id, delivery.aggregate_id)
        submitted = topics.DOCUMENTS_SUBMITTED
        made = self.told.accepted.get(
            told_id(delivery.event_id, delivery.key, submitted, topics.DOCUMENTS_CHUNKED)
        )
        reason = self.told.rejected.get(
            told_id(delivery.event_id, delivery.key, submitted, topics.DOCUMENTS_REJECTED)
        )
        digest = content_hash(message.media_type, message.title, message.content)

        def work(unit: UnitOfWork) -> None:
            remember(unit, submitted, message, delivery)
            row = row_of(unit, message.document_id)
            if made is not None:
                row.title, row.media_type = made.title, message.media_type[:200]
                note_accepted(row, delivery.time)
                new_version(unit, row, delivery, made.version, made.content_hash, made.chunk_count)
            elif reason is not None:
                note_refused(row, reason, delivery.time)
                unit.rejected = reason
            elif row.content_hash == digest:
                note_accepted(row, delivery.time)

        await delivery.apply(work)

    async def retake_withdrawal(self, message: DocumentWithdrawn, delivery: Delivery) -> None:
        check_id(message.document_id, delivery.aggregate_id)
        withdrawn = topics.DOCUMENTS_WITHDRAWN
        made = self.told.accepted.get(
            told_id(delivery.event_id, delivery.key, withdrawn, topics.DOCUMENTS_RETIRED)
        )

        def work(unit: UnitOfWork) -> None:
            remember(unit, withdrawn, message, delivery)
            row = row_of(unit, message.document_id)
            outcome = versions.withdraw(row.standing, delivery.time)
            if made is not None:
                row.withdrawn_time = delivery.time
                new_version(unit, row, delivery, made.version, "", 0)
            elif isinstance(outcome, versions.Unchanged):
                row.withdrawn_time = delivery.time

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
        row = await self._row(sender)
        digest = content_hash(message.media_type, message.title, message.content)
        if row is not None and row.content_hash == digest:
            return False
        return self._is_newest(row, sender)

    async def leaves_withdrawal(self, record: Record, sender: Sender) -> bool:
        withdrawn = topics.DOCUMENTS_WITHDRAWN
        if (
            told_id(record.event_id, sender.key, withdrawn, topics.DOCUMENTS_RETIRED)
            in self.told.accepted
        ):
            return False
        if readable(withdrawn, record, sender) is None:
            return False
        row = await self._row(sender)
        standing = row.standing if row is not None else versions.Standing()
        outcome = versions.withdraw(standing, record.time)
        return isinstance(outcome, versions.NewVersion) and self._is_newest(row, sender)

    async def _row(self, sender: Sender) -> DocumentRow | None:
        return await self.database.read(
            lambda session: find_document(session, sender.tenant_id, sender.aggregate_id)
        )

    def _is_newest(self, row: DocumentRow | None, sender: Sender) -> bool:
        """Nobody misses a version that a later one has replaced."""
        highest = self.told.highest.get((sender.tenant_id, sender.aggregate_id), 0)
        return highest <= (row.version if row is not None else 0)


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
    """Documents and their versions, without the times at which they were worked on."""
    return await database.read(
        lambda session: {
            "documents": table_hash(session, DocumentRow, ("update_time", "rejected_time")),
            "requests": table_hash(session, RequestRow),
            "versions": table_hash(session, VersionRow, ("created_time",)),
        }
    )
