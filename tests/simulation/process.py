"""A simulated operating-system process: what runs in it carries its name, and dies with it."""

from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field


@dataclass(eq=False)
class Process:
    """alive: False for good once killed. paused: stopped by a signal, its work waits."""

    name: str
    service: str
    alive: bool = True
    paused: bool = False
    # What the kernel takes back from a dead process: open files and sockets.
    handles: list[Callable[[], None]] = field(default_factory=list)

    def context(self) -> Context:
        """A context in which everything that is started belongs to this process."""
        context = copy_context()
        context.run(CURRENT.set, self)
        return context

    def die(self) -> None:
        """No clean-up of its own code runs; the kernel closes what it had open."""
        self.alive = False
        for release in self.handles:
            release()
        self.handles.clear()


WORLD = Process("world", "world")
"""Everything that is not a service: the broker, the stores, users, and whoever breaks things."""

CURRENT: ContextVar[Process] = ContextVar("simulated_process", default=WORLD)


def current() -> Process:
    """The process whose code runs at this moment."""
    return CURRENT.get()
