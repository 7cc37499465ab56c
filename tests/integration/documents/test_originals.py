"""The submitted bytes of a live document lie in the artifact store, once; the log drops them."""

import json
import os
from pathlib import Path
from typing import Any

from services.ingest.adapters.originals import Originals
from services.ingest.app import lifespan
from services.ingest.handlers.sweeping import MIN_AGE, Sweeping, sweep_originals
from tests.integration.documents.outside import Outside
from tests.waiting import eventually
from tidemill import topics
from tidemill.api.events.v1 import DocumentWithdrawn
from tidemill.api.ingest.v1 import DOCUMENT_STATE_WITHDRAWN
from tidemill.artifacts import ArtifactStore
from tidemill.topics import DOCUMENTS_SUBMITTED as SUBMITTED
from tidemill.topics import Retention

DAY_MS = 86_400_000


def originals(outside: Outside) -> list[bytes]:
    """Their contents, each with its manifest."""
    found = Path(outside.settings.artifacts_url, "originals").rglob("manifest.json")
    folders = sorted(path.parent for path in found)
    assert all(json.loads((each / "manifest.json").read_text()) for each in folders)
    return [(each / "content").read_bytes() for each in folders]


async def test_each_live_document_has_its_newest_bytes_once(ingesting: Outside) -> None:
    async def are(*wanted: bytes) -> bool:
        return sorted(originals(ingesting)) == sorted(wanted)

    await ingesting.submit(SUBMITTED, "leave", "text/plain", b"Ask anna.berg@example.com")
    await ingesting.submit(SUBMITTED, "pay", "text/plain", b"The 25th.")
    await eventually(lambda: are(b"Ask anna.berg@example.com", b"The 25th."))
    await ingesting.submit(SUBMITTED, "leave", "text/plain", b"Ask the desk.")
    await ingesting.submit(SUBMITTED, "leave", "text/plain", b"Ask the desk.")
    await eventually(lambda: are(b"Ask the desk.", b"The 25th."))
    await ingesting.submit(SUBMITTED, "leave", "text/plain", b"Ask anna.berg@example.com")
    await eventually(lambda: are(b"Ask anna.berg@example.com", b"The 25th."))
    gone = DocumentWithdrawn(document_id="leave")
    await ingesting.publish(topics.DOCUMENTS_WITHDRAWN, "leave", gone)
    await ingesting.becomes("leave", state=DOCUMENT_STATE_WITHDRAWN)
    await eventually(lambda: are(b"The 25th."))


async def test_what_no_version_needs_is_swept_once_it_is_old(
    settings: Any, run_service: Any, outside: Outside
) -> None:
    kept = Originals(ArtifactStore(settings.artifacts_url))
    async with run_service("ingest", settings, lifespan) as runtime:
        await outside.submit(SUBMITTED, "pay", "text/plain", b"The 25th.")
        await outside.becomes("pay", version=1)
        for name in ("old", "new"):
            await kept.keep(f"originals/harbor/{name}/a", name.encode())
        sweeping = Sweeping(runtime.database, kept, runtime.clock)
        age(Path(settings.artifacts_url, "originals"), except_for="new")
        assert await sweep_originals(sweeping) == 1
    assert sorted(originals(outside)) == [b"The 25th.", b"new"]


def age(folder: Path, *, except_for: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and except_for not in path.parts:
            old = path.stat().st_mtime - 2 * MIN_AGE.total_seconds()
            os.utime(path, (old, old))


async def test_the_log_keeps_commands_for_days_and_facts_for_ever() -> None:
    kept = {topic.name: topic.configs()["retention.ms"] for topic in topics.CATALOGUE}
    for topic in topics.CATALOGUE:
        wanted = 7 * DAY_MS if topic.retention is Retention.COMMANDS else -1
        assert kept[topic.name] == str(wanted), topic.name
    assert SUBMITTED.retention is Retention.COMMANDS
