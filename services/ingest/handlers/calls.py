"""What ingest does for its RPC callers."""

import hashlib
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError

from services.ingest.adapters.store import DocumentRow, RequestRow, find_document, find_request
from services.ingest.adapters.store import list_documents as list_rows
from services.ingest.domain.documents import Rejected
from services.ingest.domain.submissions import check_content, invalid_field, parse_media_type
from tidemill import topics
from tidemill.api.events.v1 import DocumentSubmitted, DocumentWithdrawn
from tidemill.bus import Bus, UnitOfWork
from tidemill.db.rivals import outlasting_rivals, rival_won
from tidemill.faults import Fault, Reason
from tidemill.ids import derived_id
from tidemill.topics import M, Topic

MAX_REQUEST_ID = 128
DEFAULT_PAGE = 100
MAX_PAGE = 1000


@dataclass(frozen=True)
class Page:
    """after: document id to go on behind, empty on the last page."""

    rows: list[Row[Any]]
    after: str


async def submit_document(
    bus: Bus, tenant_id: str, message: DocumentSubmitted, request_id: str, max_bytes: int
) -> str:
    """Id of the event on the log. Raises Fault for what can be seen without reading."""
    field = invalid_field(message.document_id, message.title, message.source_uri)
    if field:
        raise Fault(Reason.INVALID_ARGUMENT, field=field)
    try:
        parse_media_type(message.media_type)
        check_content(message.content, max_bytes)
    except Rejected as rejected:
        raise Fault(Reason(rejected.reason)) from rejected
    return await _publish_once(
        bus, tenant_id, topics.DOCUMENTS_SUBMITTED, message.document_id, message, request_id
    )


async def withdraw_document(
    bus: Bus, tenant_id: str, message: DocumentWithdrawn, request_id: str
) -> str:
    """Id of the event on the log; a document that is still on its way can be withdrawn too."""
    if invalid_field(message.document_id, "", ""):
        raise Fault(Reason.INVALID_ARGUMENT, field="document_id")
    return await _publish_once(
        bus, tenant_id, topics.DOCUMENTS_WITHDRAWN, message.document_id, message, request_id
    )


@outlasting_rivals
async def _publish_once(
    bus: Bus,
    tenant_id: str,
    topic: Topic[M],
    document_id: str,
    message: M,
    request_id: str,
) -> str:
    """A request id that was used before gives the first call's event, and publishes nothing."""
    if len(request_id) > MAX_REQUEST_ID:
        raise Fault(Reason.INVALID_ARGUMENT, field="request_id")

    def publish(unit: UnitOfWork) -> str:
        if not request_id:
            return unit.publish(topic, document_id, message)
        fingerprint = fingerprint_of(topic.name, message)
        event_id = derived_id("request", tenant_id, request_id)
        known = find_request(unit.session, tenant_id, event_id)
        if known is not None:
            return _same(known, fingerprint)
        _remember(unit, fingerprint, event_id)
        return unit.publish(topic, document_id, message, event_id=event_id)

    return await bus.write(tenant_id, publish)


def _remember(unit: UnitOfWork, fingerprint: str, event_id: str) -> None:
    row = RequestRow(tenant_id=unit.tenant_id, event_id=event_id, fingerprint=fingerprint)
    unit.session.add(row)
    try:
        unit.session.flush()
    except IntegrityError as error:
        # The same call runs on another replica; the next try finds its row.
        raise rival_won() from error


def _same(known: RequestRow, fingerprint: str) -> str:
    if known.fingerprint != fingerprint:
        raise Fault(Reason.REQUEST_ID_REUSED)
    return known.event_id


def fingerprint_of(topic: str, message: Message) -> str:
    """Of what the caller said; the times that ingest stamps are not part of it."""
    said = type(message)()
    said.CopyFrom(message)
    for field in ("submitted_time", "withdrawn_time"):
        if field in said.DESCRIPTOR.fields_by_name:
            said.ClearField(field)
    return hashlib.sha256(topic.encode() + said.SerializeToString(deterministic=True)).hexdigest()


async def get_document(bus: Bus, tenant_id: str, document_id: str) -> DocumentRow:
    """Fault(DOCUMENT_NOT_FOUND) when the tenant has no such document."""
    row = await bus.database.read(lambda session: find_document(session, tenant_id, document_id))
    if row is None or not row.known:
        raise Fault(Reason.DOCUMENT_NOT_FOUND)
    return row


async def list_documents(bus: Bus, tenant_id: str, after: str, page_size: int) -> Page:
    """page_size: 0 for the default."""
    if not 0 <= page_size <= MAX_PAGE:
        raise Fault(Reason.INVALID_ARGUMENT, field="page_size")
    limit = page_size or DEFAULT_PAGE
    rows = await bus.database.read(lambda session: list_rows(session, tenant_id, after, limit + 1))
    more = len(rows) > limit
    return Page(rows[:limit], rows[limit - 1].document_id if more else "")
