"""What an audit found."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """LOST: something that must be there is not. DOUBLED: it is there twice, or both done and
    dead. CHANGED: two tellings of one thing differ. UNEXPLAINED: an effect without its event.
    UNREADABLE: a part of the mesh could not be read at all."""

    LOST = "lost"
    DOUBLED = "doubled"
    CHANGED = "changed"
    UNEXPLAINED = "unexplained"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Disagreement:
    """One broken sentence of the invariant. where: the service or topic; what: the ids."""

    kind: Kind
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.where}: {self.what}"


@dataclass(frozen=True)
class Report:
    """acked = applied + dead + pending + missing, over the producer's own list: an event is
    applied once every service that takes it has applied it, dead or pending when one of them
    parked it or has it before it, and missing when it is not in the log or was passed over."""

    acked: int = 0
    applied: int = 0
    dead: int = 0
    pending: int = 0
    missing: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return self._count(Kind.LOST)

    @property
    def doubled(self) -> int:
        return self._count(Kind.DOUBLED)

    @property
    def whole(self) -> bool:
        return not self.disagreements

    def _count(self, kind: Kind) -> int:
        return Counter(found.kind for found in self.disagreements)[kind]

    def __str__(self) -> str:
        lines = [
            f"{self.acked} acked: {self.applied} applied, {self.dead} dead, "
            f"{self.pending} pending, {self.missing} missing",
            *(str(found) for found in self.disagreements[:20]),
        ]
        if len(self.disagreements) > 20:
            lines.append(f"and {len(self.disagreements) - 20} more")
        return "\n".join(lines)


def assert_whole(report: Report, *, drained: bool = True) -> None:
    """drained: nothing may be pending either."""
    assert report.whole, str(report)
    assert not (drained and report.pending), str(report)
