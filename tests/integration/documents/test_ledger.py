"""The ledger finds a healthy document path whole, and names each way in which it can be broken."""

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pymilvus import MilvusClient

from services.embedder.app import lifespan as embedder
from services.ingest.app import lifespan as ingest
from services.retriever.app import lifespan as retriever
from tests.conftest import BrokerProcess
from tests.integration.documents.outside import Outside, outside_of
from tests.integration.triton_process import Triton
from tests.ledger.audit import audit
from tests.ledger.facts import Accepted
from tests.ledger.log import Log
from tests.ledger.quiet import NotQuiet, until_quiet
from tests.ledger.replay import differences, rewind, state_of
from tests.ledger.report import Report, assert_whole
from tests.ports import free_port_base
from tidemill import topics
from tidemill.api.events.v1 import DocumentSubmitted, DocumentWithdrawn
from tidemill.bus.admin import create_topics
from tidemill.clock import SystemClock
from tidemill.runtime import running
from tidemill.security.keys import load_or_create_key
from tidemill.security.tokens import EVENT_AUDIENCE, Identity
from tidemill.settings import MeshSettings

pytestmark = [pytest.mark.triton, pytest.mark.asyncio(loop_scope="module")]

LIFESPANS = {"ingest": ingest, "embedder": embedder, "retriever": retriever}
SERVICES = tuple(LIFESPANS)


@dataclass(frozen=True)
class Stopped:
    """A mesh that did its work and was stopped; the broker runs."""

    bootstrap: str
    settings: MeshSettings
    accepted: dict[str, Accepted]

    async def audit(self, home: Path, *, vectors: bool = True) -> Report:
        log = Log(self.bootstrap)
        return await audit(self.bootstrap, home, SERVICES, self.accepted, log=log, vectors=vectors)


def mint(settings: MeshSettings, tenant: str, *scopes: str, events: bool = False) -> str:
    identity = Identity(load_or_create_key(settings.home / "keys"), "test", SystemClock())
    return identity.mint(tenant, scopes, audience=EVENT_AUDIENCE)


async def work(settings: MeshSettings) -> None:
    """The services run until nothing is left to do."""
    async with AsyncExitStack() as stack:
        for name, lifespan in LIFESPANS.items():
            await stack.enter_async_context(running(name, settings, lifespan))
        await until_quiet(settings.kafka_address, settings.home, SERVICES)


async def submit_all(outside: Outside) -> dict[str, Accepted]:
    """Five documents, one in three versions, one rejected, one withdrawn, one unchanged, one with
    a forged token and one that nobody can read."""
    accepted: dict[str, Accepted] = {}

    async def send(topic: Any, document: str, value: Any, **headers: str) -> None:
        event_id = await outside.publish(topic, document, value, **headers)
        payload = value if isinstance(value, bytes) else value.SerializeToString()
        accepted[event_id] = Accepted(topic.name, outside.tenant, payload)

    def text(document: str, content: str) -> DocumentSubmitted:
        return DocumentSubmitted(
            document_id=document, media_type="text/plain", content=content.encode(), title="T"
        )

    for number in range(5):
        await send(
            topics.DOCUMENTS_SUBMITTED, f"d/{number}", text(f"d/{number}", f"Rule {number}.")
        )
    for change in ("Rule 0, second edition.", "Rule 0, third edition.", "Rule 0, third edition."):
        await send(topics.DOCUMENTS_SUBMITTED, "d/0", text("d/0", change))
    await send(topics.DOCUMENTS_SUBMITTED, "d/1", text("d/1", " "))
    await send(topics.DOCUMENTS_WITHDRAWN, "d/2", DocumentWithdrawn(document_id="d/2"))
    await send(topics.DOCUMENTS_SUBMITTED, "d/6", text("d/6", "A forged one."), tidemill_token="no")
    await send(topics.DOCUMENTS_SUBMITTED, "d/7", b"\xff\xff\xff")
    return accepted


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stopped(triton: Triton, tmp_path_factory: Any) -> AsyncIterator[Stopped]:
    folder = tmp_path_factory.mktemp("ledger")
    broker = BrokerProcess(folder / "broker").start()
    try:
        await create_topics(broker.bootstrap)
        settings = MeshSettings(
            home=folder / "home",
            port_base=free_port_base(),
            kafka=broker.bootstrap,
            triton=triton.address,
        )
        async with outside_of(settings, mint) as outside:
            accepted = await submit_all(outside)
        await work(settings)
        yield Stopped(broker.bootstrap, settings, accepted)
    finally:
        broker.stop()


async def test_a_healthy_mesh_is_whole_and_every_event_has_one_fate(stopped: Stopped) -> None:
    report = await stopped.audit(stopped.settings.home)
    assert_whole(report)
    assert (report.acked, report.applied, report.dead, report.pending) == (12, 10, 2, 0)


async def test_replaying_every_topic_changes_nothing(stopped: Stopped) -> None:
    bootstrap, home = stopped.bootstrap, stopped.settings.home
    before = await state_of(bootstrap, home, SERVICES)
    await rewind(bootstrap, SERVICES)
    with pytest.raises(NotQuiet):
        await until_quiet(bootstrap, home, SERVICES, 0.5)
    await work(stopped.settings)
    assert differences(before, await state_of(bootstrap, home, SERVICES)) == []
    assert_whole(await stopped.audit(home))


DAMAGE = {
    "an applied event is forgotten": (
        "ingest",
        "DELETE FROM inbox WHERE outcome = 'applied' AND consumer LIKE '%submitted.v1' AND "
        "event_id = (SELECT event_id FROM document_versions WHERE document_id = 'd/3')",
        ("lost: ingest/documents.submitted.v1:", "was passed over"),
    ),
    "a dead event is called applied": (
        "ingest",
        "UPDATE inbox SET outcome = 'applied' WHERE outcome = 'dead' AND tenant_id != ''",
        ("doubled: ingest/documents.submitted.v1:", "is applied and dead"),
    ),
    "an event is dead without a letter": (
        "ingest",
        "UPDATE inbox SET outcome = 'dead' WHERE rowid = (SELECT min(rowid) FROM inbox WHERE "
        "outcome = 'applied')",
        ("lost: ingest/", "is dead and has no letter"),
    ),
    "a letter's event is unknown": (
        "ingest",
        "DELETE FROM inbox WHERE outcome = 'dead' AND tenant_id != ''",
        ("unexplained: ingest/documents.submitted.v1:", "which is not dead"),
    ),
    "a version is gone": (
        "ingest",
        "DELETE FROM document_versions WHERE document_id = 'd/0' AND version = 2",
        ("lost: version of a submission:", ""),
    ),
    "a version counts double": (
        "ingest",
        "INSERT INTO document_versions SELECT tenant_id, document_id, 4, content_hash, "
        "chunk_count, event_id, created_time FROM document_versions WHERE document_id = 'd/0' "
        "AND version = 3",
        ("doubled: effect of a submission:", ""),
    ),
    "the indexed version was missed": (
        "ingest",
        "UPDATE documents SET indexed_version = 0, seen_version = 0 WHERE document_id = 'd/4'",
        ("lost: indexed version:", "d/4"),
    ),
    "a document was replaced by nothing": (
        "retriever",
        "UPDATE versions SET to_revision = 99 WHERE document_id = 'd/3'",
        ("lost: version in force:", "d/3"),
    ),
    "two versions are in force": (
        "retriever",
        "UPDATE versions SET to_revision = NULL WHERE document_id = 'd/0'",
        ("unexplained: version in force:", "d/0"),
    ),
    "a chunk row is gone": (
        "retriever",
        "DELETE FROM chunks WHERE version_key = (SELECT version_key FROM versions WHERE "
        "document_id = 'd/3')",
        ("unexplained: vector:", ""),
    ),
    "a vector carries another version": (
        "retriever",
        "UPDATE chunks SET version_key = 1 WHERE version_key = (SELECT version_key FROM versions "
        "WHERE document_id = 'd/3')",
        ("lost: vector:", ""),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_row_is_named(stopped: Stopped, tmp_path: Path, damage: str) -> None:
    service, statement, (start, contained) = DAMAGE[damage]
    home = copy_of(stopped.settings.home, tmp_path)
    with sqlite3.connect(home / service / "rows.db") as rows:
        assert rows.execute(statement).rowcount > 0, "the damage must be done"
    report = await stopped.audit(home, vectors=service == "retriever")
    found = [str(each) for each in report.disagreements]
    assert any(each.startswith(start) and contained in each for each in found), found


@pytest.mark.parametrize(
    ("service", "topic", "start"),
    [
        ("ingest", topics.DOCUMENTS_CHUNKED, "doubled: DocumentChunked of a version:"),
        ("embedder", topics.CHUNKS_EMBEDDED, "doubled: ChunksEmbedded of a version:"),
        ("retriever", topics.DOCUMENTS_INDEXED, "doubled: DocumentIndexed of the newest"),
    ],
)
async def test_an_effect_that_is_told_twice_is_named(
    stopped: Stopped, tmp_path: Path, service: str, topic: Any, start: str
) -> None:
    """Under another id, and not published yet."""
    log = Log(stopped.bootstrap)
    await log.read()
    last = max(log.of(topic.name), key=lambda entry: (b"d/0" in entry.key, entry.offset))
    home = copy_of(stopped.settings.home, tmp_path)
    headers = str(dict(last.headers)).replace("'", '"').replace(last.event_id, "another")
    with sqlite3.connect(home / service / "rows.db") as rows:
        rows.execute(
            "INSERT INTO outbox (topic, key, value, headers) VALUES (?, ?, ?, ?)",
            (topic.name, last.key, last.value, headers),
        )
    report = await stopped.audit(home, vectors=False)
    assert any(str(each).startswith(start) for each in report.disagreements), str(report)


async def test_a_lost_vector_is_named(stopped: Stopped, tmp_path: Path) -> None:
    home = copy_of(stopped.settings.home, tmp_path)
    file = home / "retriever" / "milvus.db"
    client = MilvusClient(uri=str(file))
    (name,) = client.list_collections()
    client.load_collection(name)
    chunk = client.query(name, filter="", limit=1, output_fields=["chunk_id"])[0]["chunk_id"]
    client.delete(name, ids=[chunk])
    client.close()
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_server(str(file))
    report = await stopped.audit(home)
    assert [str(each) for each in report.disagreements] == [f"lost: vector: {chunk} of {name}"]


async def test_an_acknowledged_event_that_is_not_in_the_log_is_lost(stopped: Stopped) -> None:
    accepted = stopped.accepted | {
        "never-written": Accepted("documents.submitted.v1", "harbor", b"x")
    }
    report = await replace(stopped, accepted=accepted).audit(stopped.settings.home, vectors=False)
    assert (report.lost, report.missing) == (1, 1)
    assert "never-written was acknowledged" in str(report)


async def test_a_broken_mesh_is_a_finding_and_not_a_failure(
    stopped: Stopped, tmp_path: Path
) -> None:
    home = copy_of(stopped.settings.home, tmp_path)
    (home / "ingest" / "rows.db").write_bytes(b"no database" * 1_000)
    shutil.rmtree(home / "retriever" / "milvus.db")
    (home / "retriever" / "milvus.db").write_bytes(b"no vectors")
    report = await stopped.audit(home)
    assert not report.whole
    unreadable = [str(each) for each in report.disagreements if each.kind == "unreadable"]
    assert [line.split(": ")[1] for line in unreadable] == ["rows of ingest", "vector store"]


def copy_of(home: Path, folder: Path) -> Path:
    return Path(shutil.copytree(home, folder / "home"))
