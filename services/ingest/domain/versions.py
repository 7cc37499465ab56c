"""How versions are counted, whatever order and number events come in."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Standing:
    """What is known of a document before an event is applied.

    version: newest version taken, withdrawals included; 0 when none. content_hash: of that
    version, empty when it is a withdrawal. Times are when the broker took the newest accepted
    submission and the newest withdrawal.
    """

    version: int = 0
    content_hash: str = ""
    submitted_time: datetime | None = None
    withdrawn_time: datetime | None = None


@dataclass(frozen=True)
class NewVersion:
    """The event makes this version."""

    version: int


@dataclass(frozen=True)
class Unchanged:
    """The event says what is already so."""


@dataclass(frozen=True)
class Overtaken:
    """An event that the broker took later was applied first, and undoes this one."""


Outcome = NewVersion | Unchanged | Overtaken


def submit(standing: Standing, content_hash: str, time: datetime) -> Outcome:
    """A submission that the broker took before a withdrawal must not bring the document back, nor
    one that it took before a newer content bring the older back, as a late replay would."""
    if standing.withdrawn_time is not None and time < standing.withdrawn_time:
        return Overtaken()
    if content_hash == standing.content_hash:
        return Unchanged()
    if standing.submitted_time is not None and time < standing.submitted_time:
        return Overtaken()
    return NewVersion(standing.version + 1)


def withdraw(standing: Standing, time: datetime) -> Outcome:
    """A withdrawal takes a version, so that no late chunk of an older one can come back."""
    if standing.submitted_time is not None and time < standing.submitted_time:
        return Overtaken()
    if not standing.content_hash:
        return Unchanged()
    return NewVersion(standing.version + 1)
