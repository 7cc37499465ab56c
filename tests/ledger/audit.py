"""The invariant: nothing accepted is lost, no effect happens twice, and all stores agree."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from aiokafka.errors import KafkaError

from tests.ledger import deliveries, documents, learning
from tests.ledger.books import ERRORS, Books, check_file, read_books
from tests.ledger.deliveries import Standing, Standings, standings
from tests.ledger.facts import Accepted, Facts
from tests.ledger.log import Log, committed
from tests.ledger.report import Disagreement, Kind, Report
from tests.ledger.vectors import Vectors, read_vectors

Check = Callable[[Facts], Iterator[Disagreement]]

DELIVERY_CHECKS: tuple[Check, ...] = (
    deliveries.passed_over,
    deliveries.missing_in_log,
    deliveries.same_id_other_event,
    deliveries.dead_letters,
)
EFFECTS: Mapping[str, tuple[Check, ...]] = {**documents.CHECKS, **learning.CHECKS}


async def audit(
    bootstrap: str,
    home: Path,
    services: Iterable[str],
    accepted: Mapping[str, Accepted] | None = None,
    *,
    log: Log | None = None,
    vectors: bool = True,
) -> Report:
    """Read everything from outside and compare it. The broker must answer, and nothing may write
    meanwhile: the services are quiet or dead. Never raises on a broken mesh; what could not be
    read is a disagreement of its own.

    log: reads on from an earlier audit. vectors: False leaves milvus-lite unread.
    """
    facts, unreadable = await gather(
        bootstrap, home, tuple(services), accepted or {}, log or Log(bootstrap), vectors
    )
    return judge(facts, unreadable)


async def gather(
    bootstrap: str,
    home: Path,
    services: tuple[str, ...],
    accepted: Mapping[str, Accepted],
    log: Log,
    vectors: bool,
) -> tuple[Facts, list[Disagreement]]:
    unreadable: list[Disagreement] = []
    offsets: dict[str, dict[int, int]] = {}
    books = {service: _books(home, service, unreadable) for service in services}
    try:
        offsets = await committed(bootstrap, services)
        await log.read()
    except (KafkaError, TimeoutError, OSError) as error:
        unreadable.append(Disagreement(Kind.UNREADABLE, "broker", repr(error)))
    unreadable += [Disagreement(Kind.LOST, "end of the log", what) for what in log.went_back]
    facts = Facts(
        services=services,
        log={topic: log.of(topic) for topic in {place[0] for place in log.records}},
        committed=offsets,
        books=books,
        accepted=accepted,
    )
    if vectors and "retriever" in services:
        facts = replace(facts, vectors=await _vectors(home, unreadable))
    return facts, unreadable


def _books(home: Path, service: str, unreadable: list[Disagreement]) -> Books:
    try:
        wrong = check_file(home, service)
        if not wrong:
            return read_books(home, service)
    except ERRORS as error:
        wrong = repr(error)
    unreadable.append(Disagreement(Kind.UNREADABLE, f"rows of {service}", wrong))
    return Books()


async def _vectors(home: Path, unreadable: list[Disagreement]) -> Vectors | None:
    try:
        return await read_vectors(home)
    except Exception as error:  # the library has many; a broken file must not end the audit
        unreadable.append(Disagreement(Kind.UNREADABLE, "vector store", repr(error)))
        return None


def judge(facts: Facts, unreadable: Iterable[Disagreement] = ()) -> Report:
    """The report on facts that were read."""
    found = list(unreadable)
    for check in DELIVERY_CHECKS:
        found += check(facts)
    for service in facts.services:
        for effect in EFFECTS.get(service, ()):
            found += effect(facts)
    return _counted(facts, standings(facts), found)


def _counted(facts: Facts, stands: Standings, found: list[Disagreement]) -> Report:
    counts = dict.fromkeys(Standing, 0)
    held = {(e.topic, e.tenant_id, e.event_id) for es in facts.log.values() for e in es}
    for event_id, event in facts.accepted.items():
        name = (event.topic, event.tenant_id, event_id)
        # An event that none of the services takes is pending once it is in the log.
        unread = Standing.PENDING if name in held else Standing.LOST
        counts[worst(stands[name]) if name in stands else unread] += 1
    return Report(
        acked=len(facts.accepted),
        applied=counts[Standing.APPLIED],
        dead=counts[Standing.DEAD],
        pending=counts[Standing.PENDING],
        missing=counts[Standing.LOST],
        disagreements=found,
    )


def worst(standing: list[Standing]) -> Standing:
    """Of an event at all its consumers."""
    order = (Standing.LOST, Standing.PENDING, Standing.DEAD, Standing.APPLIED)
    return next(state for state in order if state in standing)
