"""Every planted bug: where it goes, which story meets it, and which promise it breaks."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.simulation.boundary import replaced_by
from tests.simulation.planted import bus_bugs, service_bugs


@dataclass(frozen=True)
class Bug:
    """words: beginnings of the invariants that may catch it. seed: one that caught it; another
    commit may take other turns, and then those from 1 on are looked through."""

    name: str
    story: str
    words: tuple[str, ...]
    plant: Callable[[], AbstractContextManager[None]]
    seed: int


def swap(owner: Any, name: str, wrong: Callable[[Any], Any]) -> Callable[[], Any]:
    """Plant by replacing owner.name by wrong(the right one)."""

    @contextmanager
    def planted() -> Iterator[None]:
        with replaced_by(owner, name, wrong(getattr(owner, name))):
            yield

    return planted


def bug(
    name: str, story: str, words: tuple[str, ...], place: tuple[Any, str, Any], seed: int
) -> Bug:
    return Bug(name, story, words, swap(*place), seed)


LOST = ("lost:",)
BUGS: tuple[Bug, ...] = (
    bug("ack first", "documents", LOST, bus_bugs.ACK_FIRST, 2),
    bug("record handed back acknowledged", "documents", LOST, bus_bugs.ACK_HELD, 6),
    bug("offset of a record in hand", "feedback", LOST, bus_bugs.OFFSET_IN_HAND, 31),
    bug("inbox before the effect", "documents", ("documents:", "index:", "lost:", "effects:"),
        bus_bugs.INBOX_FIRST, 10),
    bug("outbox in another transaction", "documents",
        ("effects:", "index:", "documents:", "lost:"), bus_bugs.OUTBOX_APART, 7),
    bug("outbox deleted before it is published", "documents",
        ("effects:", "index:", "documents:", "lost:", "dead letters:"), bus_bugs.DELETED_FIRST, 5),
    bug("relay goes on after a failure", "documents", ("order:",), bus_bugs.RELAY_SKIPS, 8),
    bug("two events of a key under way", "documents", ("order:",), bus_bugs.SIDE_BY_SIDE, 42),
    bug("relay goes past what stayed", "documents",
        ("effects:", "lost:", "dead letters:", "index:", "documents:", "stuck:"),
        bus_bugs.PAST_WHAT_STAYED, 5),
    bug("batch taken for applied", "feedback", (*LOST, "counts:", "examples:"),
        bus_bugs.BATCH_TAKEN_FOR_APPLIED, 1),
    bug("random event ids", "documents", ("replay:",), bus_bugs.RANDOM_IDS, 1),
    bug("ids without their tenant", "feedback",
        ("lost:", "counts:", "examples:", "releases:", "dead letters:"), bus_bugs.NO_TENANT, 1),
    bug("dead letter outside the transaction", "documents", ("dead letters:",),
        bus_bugs.LETTER_APART, 28),
    bug("the inbox is not asked", "documents", ("documents:", "effects:", "replay:"),
        bus_bugs.INBOX_IGNORED, 1),
    bug("retry without an end", "documents", ("stuck:",), bus_bugs.ENDLESS, 2),
    bug("storage fault swallowed", "feedback", LOST, bus_bugs.SWALLOWED, 2),
    bug("commits are not flushed", "documents", ("lost:", "documents:", "effects:", "index:"),
        bus_bugs.UNFLUSHED, 1),
    bug("version in force before its vectors", "documents", ("search:",),
        service_bugs.FLIP_FIRST, 11),
    bug("old vectors deleted before the flip", "documents", ("search:",),
        service_bugs.DELETED_EARLY, 8),
    bug("lost update of a sum", "feedback", ("counts:",), service_bugs.LOST_UPDATE, 18),
    bug("stale release applied", "feedback", ("releases:",), service_bugs.STALE_RELEASE, 2),
    bug("feedback before its answer dropped", "feedback", ("examples:",),
        service_bugs.EARLY_FEEDBACK, 1),
    bug("thumb before its answer dropped", "feedback", ("counts:",),
        service_bugs.EARLY_THUMB, 1),
)  # fmt: skip
