"""Effects of the document path: versions, chunks, vectors and what was told of them, once each."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

from services.ingest.domain.submissions import content_hash
from services.retriever.domain.naming import version_key
from tests.ledger.facts import Facts, Told
from tests.ledger.report import Disagreement, Kind
from tidemill import topics
from tidemill.api.events import v1 as events

K = TypeVar("K", bound=Hashable)
Version = tuple[str, str, int]
"""Tenant, document, version."""


def once(
    where: str, wanted: Iterable[K], found: Mapping[K, int], *, others: bool = True
) -> Iterator[Disagreement]:
    """Each wanted thing exists exactly once. others: things that nobody wanted are wrong too."""
    wanted = set(wanted)
    for thing in sorted(wanted, key=str):
        if not found.get(thing):
            yield Disagreement(Kind.LOST, where, f"{thing}")
    for thing, count in found.items():
        if count > 1:
            yield Disagreement(Kind.DOUBLED, where, f"{thing}, {count} times")
        if others and thing not in wanted:
            yield Disagreement(Kind.UNEXPLAINED, where, f"{thing}")


def version_of(event: Told[events.DocumentChunked] | Told[events.ChunksEmbedded]) -> Version:
    return (event.tenant_id, event.message.document_id, event.message.version)


def ingest(facts: Facts) -> Iterator[Disagreement]:
    """Versions count up without a gap, each from one applied event and told once."""
    rows = facts.rows("ingest", "document_versions")
    yield from _versions_by_event(facts)
    numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in rows:
        numbers[row["tenant_id"], row["document_id"]].append(row["version"])
    newest = {
        (row["tenant_id"], row["document_id"]): row["version"]
        for row in facts.rows("ingest", "documents")
    }
    for document, found in numbers.items():
        if sorted(found) != list(range(1, newest.get(document, 0) + 1)):
            what = f"{document} has versions {sorted(found)}, its newest is {newest.get(document)}"
            yield Disagreement(Kind.LOST, "ingest versions", what)
    kept = {(r["tenant_id"], r["document_id"], r["version"]) for r in rows if r["content_hash"]}
    gone = {(r["tenant_id"], r["document_id"], r["version"]) for r in rows if not r["content_hash"]}
    chunked = Counter(
        version_of(e) for e in facts.told(topics.DOCUMENTS_CHUNKED) if e.source == "ingest"
    )
    retired = Counter(
        (e.tenant_id, e.message.document_id, e.message.version)
        for e in facts.told(topics.DOCUMENTS_RETIRED)
        if e.source == "ingest"
    )
    yield from once("DocumentChunked of a version", kept, chunked)
    yield from once("DocumentRetired of a version", gone, retired)
    yield from _indexed(facts)


def _versions_by_event(facts: Facts) -> Iterator[Disagreement]:
    """What each applied submission and withdrawal came to."""
    rows = facts.rows("ingest", "document_versions")
    made = Counter((row["tenant_id"], row["event_id"]) for row in rows)
    hashes = {(row["tenant_id"], row["document_id"], row["content_hash"]) for row in rows}
    rejected = Counter(
        (e.tenant_id, e.message.event_id) for e in facts.told(topics.DOCUMENTS_REJECTED)
    )
    known: set[tuple[str, str]] = set()
    for event in facts.applied("ingest", topics.DOCUMENTS_SUBMITTED):
        name, said = (event.tenant_id, event.event_id), event.message
        known.add(name)
        digest = content_hash(said.media_type, said.title, said.content)
        if made[name] + rejected[name] > 1:
            yield Disagreement(Kind.DOUBLED, "effect of a submission", f"{name}")
        same = (event.tenant_id, said.document_id, digest) in hashes
        if not made[name] + rejected[name] and not same:
            yield Disagreement(Kind.LOST, "version of a submission", f"{name}")
    for event in facts.applied("ingest", topics.DOCUMENTS_WITHDRAWN):
        known.add((event.tenant_id, event.event_id))
    for name in (made.keys() | rejected.keys()) - known:
        yield Disagreement(Kind.UNEXPLAINED, "version or rejection", f"{name} was not applied")


def _indexed(facts: Facts) -> Iterator[Disagreement]:
    """Ingest shows of each document the highest version that it heard of."""
    heard: dict[tuple[str, str], tuple[int, bool]] = {}
    for event in facts.applied("ingest", topics.DOCUMENTS_INDEXED):
        document = (event.tenant_id, event.message.document_id)
        news = (event.message.version, event.message.retired)
        heard[document] = max(news, heard.get(document, (0, False)))
    for row in facts.rows("ingest", "documents"):
        version, retired = heard.get((row["tenant_id"], row["document_id"]), (0, False))
        wanted = (version, 0 if retired else version)
        found = (row["seen_version"], row["indexed_version"])
        if found != wanted:
            what = f"{row['document_id']}: {found} shown, {wanted} heard"
            yield Disagreement(Kind.LOST, "indexed version", what)


def embedder(facts: Facts) -> Iterator[Disagreement]:
    """Each applied version was embedded in one event, with the same chunks."""
    chunks = {
        version_of(event): [chunk.chunk_id for chunk in event.message.chunks]
        for event in facts.applied("embedder", topics.DOCUMENTS_CHUNKED)
    }
    told = [e for e in facts.told(topics.CHUNKS_EMBEDDED) if e.source == "embedder"]
    yield from once("ChunksEmbedded of a version", chunks, Counter(map(version_of, told)))
    for event in told:
        embedded = [each.chunk.chunk_id for each in event.message.chunks]
        if chunks.get(version_of(event), embedded) != embedded:
            yield Disagreement(Kind.CHANGED, "chunks of a version", f"{version_of(event)}")


def retriever(facts: Facts) -> Iterator[Disagreement]:
    """The highest applied version of each document is in force, alone, whole and told once."""
    embedded = {version_of(e): e for e in facts.applied("retriever", topics.CHUNKS_EMBEDDED)}
    retired = {
        (e.tenant_id, e.message.document_id, e.message.version)
        for e in facts.applied("retriever", topics.DOCUMENTS_RETIRED)
    }
    highest: dict[tuple[str, str], int] = {}
    for tenant, document, number in (*embedded, *retired):
        highest[tenant, document] = max(number, highest.get((tenant, document), 0))
    newest = {(*document, number) for document, number in highest.items()}
    versions = facts.rows("retriever", "versions")
    in_force = Counter(
        (row["tenant_id"], row["document_id"], row["version"])
        for row in versions
        if row["from_revision"] is not None and row["to_revision"] is None
    )
    yield from once("version in force", newest - retired, in_force)
    indexed = Counter(
        (e.tenant_id, e.message.document_id, e.message.version)
        for e in facts.told(topics.DOCUMENTS_INDEXED)
        if e.source == "retriever"
    )
    yield from once("DocumentIndexed of the newest version", newest, indexed, others=False)
    for version in indexed.keys() - embedded.keys() - retired:
        yield Disagreement(Kind.UNEXPLAINED, "DocumentIndexed", f"{version} was not applied")
    rows = Counter((r["tenant_id"], r["chunk_id"]) for r in facts.rows("retriever", "chunks"))
    for version in (newest - retired) & embedded.keys():
        chunks = [(version[0], each.chunk.chunk_id) for each in embedded[version].message.chunks]
        yield from once(f"chunk row of {version}", chunks, {c: rows[c] for c in chunks})


def vector_store(facts: Facts) -> Iterator[Disagreement]:
    """Every chunk row has its vector, and there is no vector of anything else.

    Vectors of a version that was written down and not yet brought into force may be there.
    """
    if facts.vectors is None:
        return
    collections = {r["tenant_id"]: r["collection"] for r in facts.rows("retriever", "indexes")}
    wanted: dict[str, dict[str, int]] = defaultdict(dict)
    for row in facts.rows("retriever", "chunks"):
        wanted[collections.get(row["tenant_id"], "")][row["chunk_id"]] = row["version_key"]
    staged = {
        row["version_key"]
        for row in facts.rows("retriever", "versions")
        if not row["from_revision"]
    }
    for name in {*wanted, *facts.vectors}:
        found = facts.vectors.get(name, {})
        for chunk, key in wanted[name].items():
            if found.get(chunk) != key:
                yield Disagreement(Kind.LOST, "vector", f"{chunk} of {name}")
        for chunk, key in found.items():
            if chunk not in wanted[name] and key not in staged:
                yield Disagreement(Kind.UNEXPLAINED, "vector", f"{chunk} of {name}")


def version_keys(facts: Facts) -> Iterator[Disagreement]:
    """The key that a vector carries is its version's."""
    for row in facts.rows("retriever", "versions"):
        version = (row["tenant_id"], row["document_id"], row["version"])
        if row["version_key"] != version_key(*version):
            yield Disagreement(Kind.CHANGED, "key of a version", f"{version}")


CHECKS = {
    "ingest": (ingest,),
    "embedder": (embedder,),
    "retriever": (retriever, vector_store, version_keys),
}
