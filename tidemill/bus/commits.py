"""Transactions of a service's bus: what is ready at the same time is committed together."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import insert
from sqlalchemy.orm import Session

from tidemill.bus import inbox
from tidemill.bus.inbox import APPLIED, Claim, Done, Mark
from tidemill.bus.tables import OutboxRow
from tidemill.bus.unit import OutboxValues, UnitOfWork
from tidemill.db import Database
from tidemill.db.rivals import is_rival
from tidemill.db.storage_faults import DATABASE
from tidemill.faults import Fault

T = TypeVar("T")

MOST_AT_ONCE = 500
"""Works in one transaction; a long one keeps other writers waiting."""

Work = Callable[[UnitOfWork], T]
IsNews = Callable[[OutboxValues], bool]
"""Whether an event is to be published: while rows are rebuilt, most are on the log already."""


class AlreadyApplied(Exception):
    """The event was applied by an earlier delivery; the bus takes it as done."""


@dataclass(frozen=True)
class Settling:
    """How an event ends when its work is committed. reason: why it is dead-lettered."""

    claim: Claim
    at: datetime
    outcome: str = APPLIED
    reason: str = ""


@dataclass(eq=False)
class Entry:
    """A work that waits for its transaction, with the context of whoever waits for it."""

    work: Work[Any]
    unit: Callable[[Session], UnitOfWork]
    settling: Settling | None
    context: Context = field(default_factory=copy_context)
    done: "asyncio.Future[Any]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, result: Any) -> None:
        if not self.done.done():
            self.done.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class GroupCommit:
    """Works that come while a transaction is under way share the next one.

    Nothing waits for company: a lone work is begun at once. When a transaction of several fails,
    each of them gets one of its own, so a bad one fails by itself.
    """

    def __init__(
        self,
        database: Database,
        wake_relay: Callable[[], None],
        is_news: IsNews = lambda values: True,
    ) -> None:
        self.database = database
        self._wake_relay = wake_relay
        self.is_news = is_news
        self._waiting: deque[Entry] = deque()
        self._committing: asyncio.Task[None] | None = None

    async def apply(
        self,
        work: Work[T],
        unit: Callable[[Session], UnitOfWork],
        settling: Settling | None = None,
    ) -> T:
        """What the work returns, once it is committed with its inbox row and its events.

        Raises AlreadyApplied when the event is done, or whatever the work or the storage raises.
        """
        entry = Entry(work, unit, settling)
        self._waiting.append(entry)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_waiting())
        result = await entry.done
        if isinstance(result, AlreadyApplied):
            raise result
        answer: T = result
        return answer

    async def _commit_waiting(self) -> None:
        try:
            while self._waiting:
                most = min(len(self._waiting), MOST_AT_ONCE)
                taken = [self._waiting.popleft() for _ in range(most)]
                await self._commit([entry for entry in taken if not entry.done.done()])
        finally:
            self._committing = None

    async def _commit(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        try:
            results, published = await self.database.write(
                partial(apply_all, entries, self.is_news)
            )
        except Exception as error:
            await self._take_apart(entries, error)
            return
        for entry, result in zip(entries, results, strict=True):
            entry.settle(result)
        if published:
            self._wake_relay()

    async def _take_apart(self, entries: Sequence[Entry], error: Exception) -> None:
        """A disk that is full or away says the same to each of them."""
        if len(entries) == 1 or is_storage_fault(error):
            for entry in entries:
                entry.fail(error)
            return
        for entry in entries:
            if not entry.done.done():
                await self._commit([entry])


def is_storage_fault(error: Exception) -> bool:
    if not isinstance(error, Fault) or is_rival(error):
        return False
    return error.metadata.get("dependency") == DATABASE


def apply_all(entries: Sequence[Entry], is_news: IsNews, session: Session) -> tuple[list[Any], int]:
    """Results of the works in their order, and how many events they published. One look into the
    inbox and one insert each for inbox and outbox, however many works there are."""
    known = inbox.find_all(session, [e.settling.claim for e in entries if e.settling])
    results: list[Any] = []
    marks: list[Mark] = []
    outbox: list[OutboxValues] = []
    taken: set[inbox.Key] = set()
    for entry in entries:
        if is_settled(entry.settling, known, taken):
            results.append(AlreadyApplied())
            continue
        unit = entry.unit(session)
        results.append(entry.context.run(entry.work, unit))
        outbox += filter(is_news, unit.outbox)
        if entry.settling:
            marks.append(mark_of(entry.settling, known, unit.rejected))
            taken.add(entry.settling.claim.key)
    # The works' own rows first: an error in them is not a rival's.
    session.flush()
    inbox.mark_all(session, marks)
    if outbox:
        session.connection().execute(insert(OutboxRow), outbox)
    return results, len(outbox)


def is_settled(
    settling: Settling | None, known: dict[inbox.Key, Done], taken: set[inbox.Key]
) -> bool:
    if settling is None:
        return False
    key = settling.claim.key
    return key in taken or inbox.is_done(known.get(key), settling.claim)


def mark_of(settling: Settling, known: dict[inbox.Key, Done], rejected: str = "") -> Mark:
    claim = settling.claim
    outcome = inbox.REJECTED if rejected else settling.outcome
    reason = rejected or settling.reason
    return Mark(claim, outcome, reason, settling.at, known.get(claim.key))
