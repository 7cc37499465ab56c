"""The release ledger of one tenant as a pure state machine; every change counts the epoch up."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

PARENT_ROLLED_BACK = "PARENT_ROLLED_BACK"
REQUESTED = "REQUESTED"


class State(StrEnum):
    """Names of tidemill.api.events.v1.ReleaseState without their prefix."""

    PROPOSED = "PROPOSED"
    REJECTED = "REJECTED"
    CANARY = "CANARY"
    PROMOTED = "PROMOTED"
    ROLLED_BACK = "ROLLED_BACK"
    SUPERSEDED = "SUPERSEDED"


@dataclass(frozen=True)
class Entry:
    """One release; parent_id is empty for the tenant's first."""

    release_id: str
    parent_id: str
    state: State


@dataclass(frozen=True)
class Change:
    """A release takes a state; epochs of a tenant strictly increase."""

    release_id: str
    parent_id: str
    state: State
    epoch: int
    reasons: tuple[str, ...] = ()


class TransitionRefused(Exception):
    """The change does not fit the state of the ledger; carries a machine-readable reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _no_entries() -> Mapping[str, Entry]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Ledger:
    """All releases of one tenant and the epoch of the last change."""

    epoch: int = 0
    entries: Mapping[str, Entry] = field(default_factory=_no_entries)

    @property
    def in_force(self) -> Entry | None:
        return self._only(State.PROMOTED)

    @property
    def candidate(self) -> Entry | None:
        """The release that waits for its gate or is in canary; there is at most one."""
        return self._only(State.PROPOSED) or self._only(State.CANARY)

    def _only(self, state: State) -> Entry | None:
        found = [entry for entry in self.entries.values() if entry.state is state]
        return found[0] if found else None

    def after(self, changes: tuple[Change, ...]) -> "Ledger":
        """The ledger once the changes are applied."""
        entries = dict(self.entries)
        for change in changes:
            entries[change.release_id] = Entry(change.release_id, change.parent_id, change.state)
        epoch = changes[-1].epoch if changes else self.epoch
        return replace(self, epoch=epoch, entries=MappingProxyType(entries))


def adopt_first(ledger: Ledger, release_id: str) -> tuple[Change, ...]:
    """The release that a new tenant starts from; it is in force without a gate."""
    _require(not ledger.entries, "LEDGER_NOT_EMPTY")
    return _changes(ledger, (Entry(release_id, "", State.PROMOTED), ()))


def propose(ledger: Ledger, release_id: str) -> tuple[Change, ...]:
    """A new candidate against the release in force; one at a time."""
    _require(ledger.candidate is None, "CANDIDATE_EXISTS")
    _require(release_id not in ledger.entries, "RELEASE_EXISTS")
    in_force = _in_force(ledger)
    return _changes(ledger, (Entry(release_id, in_force.release_id, State.PROPOSED), ()))


def reject(ledger: Ledger, release_id: str, reasons: tuple[str, ...]) -> tuple[Change, ...]:
    """The gate refused the candidate."""
    entry = _entry(ledger, release_id, State.PROPOSED)
    return _changes(ledger, (replace(entry, state=State.REJECTED), reasons))


def start_canary(ledger: Ledger, release_id: str) -> tuple[Change, ...]:
    """The gate passed the candidate against the release that is still in force."""
    entry = _entry(ledger, release_id, State.PROPOSED)
    _require(entry.parent_id == _in_force(ledger).release_id, "BASELINE_NOT_LIVE")
    return _changes(ledger, (replace(entry, state=State.CANARY), ()))


def promote(ledger: Ledger, release_id: str, reasons: tuple[str, ...]) -> tuple[Change, ...]:
    """The canary takes the place of its parent.

    The promotion comes before the supersession, so that a reader who applies change after
    change has a release in force at every moment.
    """
    entry, parent = _entry(ledger, release_id, State.CANARY), _in_force(ledger)
    _require(entry.parent_id == parent.release_id, "BASELINE_NOT_LIVE")
    return _changes(
        ledger,
        (replace(entry, state=State.PROMOTED), reasons),
        (replace(parent, state=State.SUPERSEDED), ()),
    )


def roll_back(ledger: Ledger, release_id: str, reasons: tuple[str, ...]) -> tuple[Change, ...]:
    """Takes back the canary, or the release in force, whose parent is in force again."""
    entry = ledger.entries.get(release_id)
    if entry is not None and entry.state is State.CANARY:
        return _changes(ledger, (replace(entry, state=State.ROLLED_BACK), reasons))
    entry = _entry(ledger, release_id, State.PROMOTED)
    parent = ledger.entries.get(entry.parent_id)
    if parent is None:
        raise TransitionRefused("NO_PARENT")
    return _changes(
        ledger,
        (replace(parent, state=State.PROMOTED), ()),
        (replace(entry, state=State.ROLLED_BACK), reasons),
        *_orphaned(ledger),
    )


def _orphaned(ledger: Ledger) -> tuple[tuple[Entry, tuple[str, ...]], ...]:
    """A candidate was judged against a release that is no longer in force; it ends with it."""
    candidate = ledger.candidate
    if candidate is None:
        return ()
    end = State.REJECTED if candidate.state is State.PROPOSED else State.ROLLED_BACK
    return ((replace(candidate, state=end), (PARENT_ROLLED_BACK,)),)


def _changes(ledger: Ledger, *steps: tuple[Entry, tuple[str, ...]]) -> tuple[Change, ...]:
    return tuple(
        Change(entry.release_id, entry.parent_id, entry.state, ledger.epoch + place, reasons)
        for place, (entry, reasons) in enumerate(steps, start=1)
    )


def _entry(ledger: Ledger, release_id: str, state: State) -> Entry:
    entry = ledger.entries.get(release_id)
    if entry is None or entry.state is not state:
        raise TransitionRefused(f"NOT_{state}")
    return entry


def _in_force(ledger: Ledger) -> Entry:
    in_force = ledger.in_force
    if in_force is None:
        raise TransitionRefused("NO_LIVE_RELEASE")
    return in_force


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise TransitionRefused(reason)
