"""What a service says about the rebuild of its store."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from sqlalchemy import MetaData
from sqlalchemy.orm import Session

from tidemill.bus import Bus, UnitOfWork
from tidemill.bus.attempt import Handler
from tidemill.bus.envelope import Record
from tidemill.bus.replaying import Leaves
from tidemill.bus.tables import OutboxRow
from tidemill.db import Database
from tidemill.db.migrations import Migrations
from tidemill.rebuild.clock import ReplayClock
from tidemill.security.tokens import Identity
from tidemill.settings import MeshSettings
from tidemill.topics import M, Topic

Restore = Callable[[M, Record, UnitOfWork], None]
"""Writes what one of the service's own events says into rows; twice has the effect of once."""

Digests = Mapping[str, str]
"""Name of a part of the store to a hash of its content."""


@dataclass(frozen=True)
class Input(Generic[M]):
    """A topic that the service consumes: replayed through a handler and the inbox.

    leaves: which events are left to the service itself, because their effect is missing and costs
    work outside the rows; the service gets them again when it starts.
    """

    topic: Topic[M]
    handler: Handler[M]
    leaves: Leaves | None = None


@dataclass(frozen=True)
class Output(Generic[M]):
    """A topic that the service writes: what it decided is read back and never decided again."""

    topic: Topic[M]
    restore: Restore[M]


async def nothing() -> None:
    """A store that follows from its events alone has nothing to settle."""


def still_true(session: Session, row: OutboxRow) -> bool:
    """An event that is missing on the log is published."""
    return True


@dataclass(frozen=True)
class Plan:
    """How a store follows from the log.

    phases: topics of one phase are read together by the broker's time, phase after phase.
    settle: what is to be done once the events are in; it runs twice.
    digests: hashes of what must be equal after a rebuild.
    wanted: False for an event that is missing on the log and is overtaken by one that is there.
    beside: other files that were built, each with the place of the one in use. migrations and
    tables: its own, if it has any beside the bus's.
    """

    phases: tuple[tuple[Input[Any] | Output[Any], ...], ...]
    digests: Callable[[Database], Awaitable[Digests]]
    settle: Callable[[], Awaitable[None]] = nothing
    wanted: Callable[[Session, OutboxRow], bool] = still_true
    beside: tuple[tuple[Path, Path], ...] = ()
    migrations: Migrations | None = None
    tables: MetaData | None = None

    @property
    def inputs(self) -> list[Input[Any]]:
        return [s for phase in self.phases for s in phase if isinstance(s, Input)]


@dataclass(frozen=True)
class Stage:
    """What a plan is made of: the new store, and a clock that shows the time of the event in hand.

    folder: where new files are built. bus: never started; what it writes goes to the new store.
    """

    service: str
    settings: MeshSettings
    folder: Path
    database: Database
    bus: Bus
    clock: ReplayClock
    identity: Identity


MakePlan = Callable[[Stage], Plan]
