"""How document versions come into force and go, as rows.

Plain statements: an object for each row would cost more than all else that a version costs.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from services.retriever.adapters.store import CHUNKS, DOCUMENTS, VERSIONS

Values = dict[str, Any]

_OF_DOCUMENT = (
    DOCUMENTS.c.tenant_id == bindparam("of_tenant"),
    DOCUMENTS.c.document_id == bindparam("of_document"),
)
_OF_VERSION = (
    VERSIONS.c.tenant_id == bindparam("of_tenant"),
    VERSIONS.c.version_key == bindparam("of_key"),
)
_APPLIED = select(DOCUMENTS.c.version).where(*_OF_DOCUMENT)
_KNOWN = select(VERSIONS.c.version_key).where(*_OF_VERSION)
_REPLACE = update(DOCUMENTS).where(*_OF_DOCUMENT)
_END = (
    update(VERSIONS)
    .where(
        VERSIONS.c.tenant_id == bindparam("of_tenant"),
        VERSIONS.c.document_id == bindparam("of_document"),
        VERSIONS.c.from_revision.is_not(None),
        VERSIONS.c.to_revision.is_(None),
    )
    .values(to_revision=bindparam("revision"), ended_time=bindparam("now"))
)
_BEGIN = update(VERSIONS).where(*_OF_VERSION).values(from_revision=bindparam("revision"))


def applied_version(session: Session, tenant_id: str, document_id: str) -> int | None:
    """The highest version that was applied, withdrawals included; None for a new document."""
    of = {"of_tenant": tenant_id, "of_document": document_id}
    found: int | None = session.connection().scalar(_APPLIED, of)
    return found


def set_applied_version(
    session: Session,
    tenant_id: str,
    document_id: str,
    version: int,
    *,
    retired: bool,
    is_new: bool,
) -> None:
    """is_new: the document has no row yet."""
    values = {"version": version, "retired": retired}
    if is_new:
        key = {"tenant_id": tenant_id, "document_id": document_id}
        session.connection().execute(insert(DOCUMENTS), key | values)
    else:
        of = {"of_tenant": tenant_id, "of_document": document_id}
        session.connection().execute(_REPLACE, of | values)


def stage_version(session: Session, values: Values) -> None:
    """Nothing when the version is staged already. values: columns of a version."""
    of = {"of_tenant": values["tenant_id"], "of_key": values["version_key"]}
    if session.connection().scalar(_KNOWN, of) is None:
        session.connection().execute(insert(VERSIONS), values)


def end_version_in_force(
    session: Session, tenant_id: str, document_id: str, revision: int, now: datetime
) -> None:
    """Searches that begin at the revision or later do not see it."""
    of = {"of_tenant": tenant_id, "of_document": document_id}
    session.connection().execute(_END, of | {"revision": revision, "now": now})


def bring_into_force(
    session: Session, values: Values, revision: int, chunks: Sequence[Values]
) -> None:
    """Searches that begin at the revision or later see it. values: columns of the version, for
    one that is not staged any more."""
    of = {"of_tenant": values["tenant_id"], "of_key": values["version_key"]}
    connection = session.connection()
    if not connection.execute(_BEGIN, of | {"revision": revision}).rowcount:
        connection.execute(insert(VERSIONS), values | {"from_revision": revision})
    connection.execute(insert(CHUNKS), list(chunks))
