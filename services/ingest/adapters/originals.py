"""The submitted bytes of each version in force, once, in the artifact store.

The log keeps what outsiders submit for days only. A name is of one event, so that what is dropped
late is never what came back meanwhile.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass

from services.ingest.adapters.store import DocumentRow
from tidemill.artifacts import ArtifactStore
from tidemill.faults import Fault

PREFIX = "originals"
FILE = "content"
KEEP_SECONDS = 60.0
DROP_SECONDS = 5.0


@dataclass(frozen=True)
class Originals:
    """Faults are those of the artifact store."""

    store: ArtifactStore

    async def keep(self, name: str, content: bytes) -> None:
        await self.store.put_files({FILE: content}, name, KEEP_SECONDS)

    async def drop(self, name: str) -> None:
        """What cannot be dropped now is swept later."""
        with suppress(Fault):
            await self.store.remove_folder(name, DROP_SECONDS)


def name_of(tenant_id: str, document_id: str, event_id: str, content_hash: str) -> str:
    """Of the original behind a version. event_id: of the submission."""
    return f"{PREFIX}/{tenant_id}/{short(document_id)}/{short(event_id, content_hash)}"


def name_in_force(row: DocumentRow) -> str | None:
    """None for a document that is withdrawn or was never accepted."""
    if not row.content_hash:
        return None
    return name_of(row.tenant_id, row.document_id, row.event_id, row.content_hash)


def short(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
