"""Which versions a search may show: those in force at the revision that it started from.

Each change of a tenant's index takes the next revision. A version is in force from the revision
that brought it in until the one that replaced or retired it. A search reads the revision first,
and the vectors of all versions in force then stay until long after it is over, so it sees every
document in exactly one state, whatever happens meanwhile.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Revisions: start inclusive, None while not in force yet; end exclusive, None while open."""

    start: int | None
    end: int | None


def visible(span: Span, revision: int) -> bool:
    if span.start is None or span.start > revision:
        return False
    return span.end is None or span.end > revision
