"""Progress of the demo: named stages with their seconds, shown as they go."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tidemill.cli.output import Output


@dataclass
class Stages:
    """Seconds of each stage, in order."""

    output: Output
    planned: int
    seconds: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, what: str) -> Iterator[None]:
        number = len(self.seconds) + 1
        self.output.note(f"\n[bold][{number}/{self.planned}] {what}[/bold]")
        started = time.monotonic()
        try:
            yield
        finally:
            elapsed = time.monotonic() - started
            self.seconds.append((name, elapsed))
            self.output.note(f"  [dim]{elapsed:.1f} s[/dim]")

    def one_more(self) -> None:
        """A stage that was not planned is about to begin."""
        self.planned += 1

    def documents(self) -> list[dict[str, object]]:
        return [{"name": name, "seconds": round(value, 2)} for name, value in self.seconds]

    @property
    def total(self) -> float:
        return sum(value for _, value in self.seconds)
