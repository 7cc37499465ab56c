"""How a worker thread shares the interpreter with the event loop."""

import time
from collections.abc import Iterable, Iterator
from threading import Event
from typing import TypeVar

T = TypeVar("T")

_STEP_ITEMS = 32
_WORK_SECONDS = 0.0005
_REST_SECONDS = 0.0005


class Stopped(Exception):
    """The broker is closing."""


class Pace:
    """Rests as long as it works, twice a millisecond: the loop never waits for long.

    Without rests it would wait for the interpreter's switch interval, 5 ms, at every turn.
    """

    def __init__(self) -> None:
        self._stop = Event()
        self._rested_at = time.perf_counter()

    def stop(self) -> None:
        """Ends the work at its next step."""
        self._stop.set()

    def step(self) -> None:
        """Called after each small piece of work; raises Stopped."""
        if self._stop.is_set():
            raise Stopped
        if time.perf_counter() - self._rested_at > _WORK_SECONDS:
            self._stop.wait(_REST_SECONDS)
            self._rested_at = time.perf_counter()

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items, with a step every few of them."""
        for number, item in enumerate(items):
            if number % _STEP_ITEMS == 0:
                self.step()
            yield item
