"""The document path under trouble: users submit, change and withdraw; every promise is asked for.

Real: ingest, embedder and retriever, from their doors to their rows.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from random import Random

from services.ingest.domain.submissions import content_hash
from tests.simulation import invariants
from tests.simulation.ledgers import read
from tests.simulation.traffic import Sender
from tests.simulation.world import World
from tidemill import topics
from tidemill.api.events.v1 import (
    ChunksEmbedded,
    DocumentChunked,
    DocumentIndexed,
    DocumentSubmitted,
    DocumentWithdrawn,
)
from tidemill.api.ingest.v1 import (
    IngestServiceStub,
    SubmitDocumentRequest,
    WithdrawDocumentRequest,
)
from tidemill.faults import Fault
from tidemill.rpc import call

NAMES = ["ingest", "embedder", "retriever"]
TENANTS = ("acme", "globex")
MEDIA = "text/markdown"


async def story(world: World) -> list[str]:
    load = Load(world)
    world.rebuildable = ("embedder",)
    return await invariants.under_trouble(world, load.run, load.watch, load.check)


@dataclass
class Load:
    """What users do, and what must have come of it."""

    world: World
    seen_broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = Random(f"{self.world.seed}/load")
        self._sender = Sender(self.world, self._random)

    # --- what users do

    async def run(self, seconds: float) -> None:
        number = self._random.randint(6, 16)
        moments = sorted(self._random.uniform(0.5, seconds) for _ in range(number))
        works, before = [], 0.0
        for moment in moments:
            await asyncio.sleep(moment - before)
            before = moment
            works.append(asyncio.create_task(self._act()))
        await asyncio.gather(*works)

    async def _act(self) -> None:
        tenant = self._random.choice(TENANTS)
        document = f"doc-{self._random.randrange(2)}"
        text = f"# Guide {self._random.randrange(3)}\n\nThe answer is here.\n"
        match self._random.randrange(15):
            case 11 | 12 | 13 | 14:
                # Edited in quick succession: its events lie side by side in the outbox.
                for number in range(3):
                    await self._produce(tenant, document, f"{text}Edit {number}.\n")
            case 10:
                # The key names another document than the message: no try can heal that.
                message = submission("another", text)
                await self._sender.produce(topics.DOCUMENTS_SUBMITTED, tenant, document, message)
            case 0 | 1 | 2 | 3:
                await self._produce(tenant, document, text)
            case 4 | 5 | 6:
                await self._call(tenant, document, text)
            case 7:
                message = DocumentWithdrawn(document_id=document)
                await self._sender.produce(topics.DOCUMENTS_WITHDRAWN, tenant, document, message)
            case 8:
                await self._call_to_withdraw(tenant, document)
            case _:
                for _ in range(4):
                    await self._sender.poison(topics.DOCUMENTS_SUBMITTED, tenant, document)

    async def _produce(self, tenant: str, document: str, text: str) -> None:
        message = submission(document, text)
        await self._sender.produce(topics.DOCUMENTS_SUBMITTED, tenant, document, message)

    async def _call(self, tenant: str, document: str, text: str) -> None:
        request = SubmitDocumentRequest(
            document_id=document,
            media_type=MEDIA,
            content=text.encode(),
            request_id=f"r-{self._random.randrange(10**9)}",
        )
        stub = IngestServiceStub(self.world.network_channel("ingest"))
        await self._insist(stub.SubmitDocument, request, tenant)

    async def _call_to_withdraw(self, tenant: str, document: str) -> None:
        name = f"r-{self._random.randrange(10**9)}"
        request = WithdrawDocumentRequest(document_id=document, request_id=name)
        stub = IngestServiceStub(self.world.network_channel("ingest"))
        await self._insist(stub.WithdrawDocument, request, tenant)

    async def _insist(self, method: object, request: object, tenant: str) -> None:
        """A caller who hears nothing asks again with the same request id."""
        for _ in range(8):
            token = self.world.identity.mint(tenant, ["documents:write"])
            try:
                answer = await call(method, request, token=token, timeout=5.0)  # type: ignore[arg-type]
            except Fault:
                await asyncio.sleep(self._random.uniform(0.2, 2.0))
            else:
                self._sender.promised.append((topics.DOCUMENTS_SUBMITTED.name, answer.event_id))
                return

    # --- what must hold at every moment

    def watch(self) -> list[str]:
        """A version that searches see has all its vectors."""
        path = self.world.rows("retriever")
        query = (
            "SELECT i.collection, c.chunk_id, c.version_key FROM chunks c JOIN versions v"
            " ON v.tenant_id = c.tenant_id AND v.version_key = c.version_key"
            " JOIN indexes i ON i.tenant_id = c.tenant_id"
            " WHERE v.from_revision IS NOT NULL AND v.to_revision IS NULL"
        )
        collections = self.world.stores.collections
        for name, chunk, key in read(path, query):
            if collections.get(name, {}).get(chunk, (None, None))[0] != key:
                return ["search: a version in force lacks a vector"]
        return []

    # --- what must have come of it

    def check(self) -> list[str]:
        log = invariants.Log(self.world)
        broken = [
            *invariants.accounted(self.world, log),
            *invariants.published_once(log),
            *self._promises(log),
            *self._versions(log),
            *self._chain(log),
            *self._in_force(log),
            *self._vectors(),
        ]
        return broken

    def _promises(self, log: "invariants.Log") -> list[str]:
        ids = {e.event_id for e in log.of(topics.DOCUMENTS_SUBMITTED)} | {
            e.event_id for e in log.of(topics.DOCUMENTS_WITHDRAWN)
        }
        lost = [event for _, event in self._sender.promised if event not in ids]
        return [f"lost: {len(lost)} accepted calls left no event"] if lost else []

    def _versions(self, log: "invariants.Log") -> list[str]:
        """The newest event of a document decides, and each event makes one version at most."""
        broken = []
        rows = read(
            self.world.rows("ingest"),
            "SELECT tenant_id, document_id, content_hash, version, indexed_version FROM documents",
        )
        standing = {(t, d): (hash_, version, indexed) for t, d, hash_, version, indexed in rows}
        for key, wanted in self._wanted(log).items():
            hash_, version, indexed = standing.get(key, ("", 0, 0))
            if hash_ != wanted:
                broken.append("documents: the newest submission is not the one that stands")
            if indexed != (version if wanted else 0):
                broken.append("documents: ingest does not know what is indexed")
        made = read(self.world.rows("ingest"), "SELECT tenant_id, event_id FROM document_versions")
        if len(made) != len(set(made)):
            broken.append("effects: one event made two versions")
        return broken

    def _wanted(self, log: "invariants.Log") -> dict[tuple[str, str], str]:
        """Content hash by document, of those whose events were all applied."""
        wanted: dict[tuple[str, str], tuple[int, str]] = {}
        dead = {(e.tenant, e.aggregate) for e in log.dead("ingest")}
        for event in log.first(topics.DOCUMENTS_SUBMITTED):
            message = event.decoded(DocumentSubmitted)
            if message is not None and message.document_id == event.aggregate:
                digest = content_hash(message.media_type, message.title, message.content)
                newest(wanted, event, digest)
        for event in log.first(topics.DOCUMENTS_WITHDRAWN):
            # Two topics have no order within a millisecond: either may have come last.
            if wanted.get((event.tenant, event.aggregate), (0, ""))[0] == event.timestamp:
                dead.add((event.tenant, event.aggregate))
            newest(wanted, event, "")
        return {key: digest for key, (_, digest) in wanted.items() if key not in dead}

    def _chain(self, log: "invariants.Log") -> list[str]:
        """Each version is chunked, embedded and indexed once, in its order."""
        broken = []
        made = set(
            read(
                self.world.rows("ingest"),
                "SELECT tenant_id, document_id, version FROM document_versions"
                " WHERE content_hash != ''",
            )
        )
        chunked = log.effects(topics.DOCUMENTS_CHUNKED, DocumentChunked, version_of)
        embedded = log.effects(topics.CHUNKS_EMBEDDED, ChunksEmbedded, version_of)
        indexed = log.effects(topics.DOCUMENTS_INDEXED, DocumentIndexed, version_of)
        dead = {(e.tenant, e.aggregate) for e in log.dead("embedder")}
        if set(chunked) != made:
            broken.append("effects: versions and published chunks differ")
        if {v for v in chunked if v[:2] not in dead} - set(embedded):
            broken.append("lost: a version was never embedded")
        for name, effects in (("chunked", chunked), ("embedded", embedded), ("indexed", indexed)):
            if any(len(ids) > 1 for ids in effects.values()):
                broken.append(f"effects: a version was {name} under two ids")
            if unordered(effects):
                broken.append(f"order: versions were {name} out of order")
        return broken

    def _in_force(self, log: "invariants.Log") -> list[str]:
        rows = read(
            self.world.rows("retriever"),
            "SELECT tenant_id, document_id, version FROM versions"
            " WHERE from_revision IS NOT NULL AND to_revision IS NULL",
        )
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        for tenant, document, version in rows:
            found[tenant, document].append(version)
        dead = {(e.tenant, e.aggregate) for e in log.dead()}
        wanted = {
            (t, d): [v] if content else []
            for t, d, v, content in read(
                self.world.rows("ingest"),
                "SELECT tenant_id, document_id, version, content_hash FROM documents",
            )
            if (t, d) not in dead
        }
        wrong = [key for key, versions in wanted.items() if found.get(key, []) != versions]
        return ["index: another version is in force than ingest made"] if wrong else []

    def _vectors(self) -> list[str]:
        """After a reconciliation: the rows' chunks and nothing else."""
        path, broken = self.world.rows("retriever"), []
        for tenant, name in read(path, "SELECT tenant_id, collection FROM indexes"):
            query = "SELECT chunk_id, version_key FROM chunks WHERE tenant_id = ?"
            rows = dict(read(path, query, tenant))
            held = self.world.stores.collections.get(name, {})
            keys = {chunk: key for chunk, (key, _) in held.items()}
            if name and rows.items() - keys.items():
                broken.append("index: a chunk of the rows has no vector")
            # Those of a version that was overtaken while staged stay for a quarter of an hour.
            query = "SELECT version_key FROM versions WHERE tenant_id = ?"
            known = {key for (key,) in read(path, query, tenant)}
            if name and set(keys.values()) - known:
                broken.append("index: a vector has no version")
        return broken


def submission(document: str, text: str) -> DocumentSubmitted:
    return DocumentSubmitted(document_id=document, media_type=MEDIA, content=text.encode())


def newest(
    wanted: dict[tuple[str, str], tuple[int, str]], event: "invariants.Event", digest: str
) -> None:
    """Keeps the later one by the broker's time."""
    known = wanted.get((event.tenant, event.aggregate))
    if known is None or event.timestamp >= known[0]:
        wanted[event.tenant, event.aggregate] = (event.timestamp, digest)


def version_of(message: DocumentChunked) -> tuple[str, str, int]:
    return (message.tenant_id, message.document_id, message.version)


def unordered(effects: dict[tuple[str, str, int], dict[str, int]]) -> bool:
    """Whether a document's versions first appeared in another order than their own."""
    first: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for (tenant, document, version), ids in effects.items():
        first[tenant, document].append((min(ids.values()), version))
    return any(
        [v for _, v in sorted(places)] != sorted(v for _, v in places) for places in first.values()
    )
