"""Commands that are imported when they run: a list of them costs none of their libraries."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


@dataclass(frozen=True)
class Entry:
    """A command or a group of them by place. place: `module:name` under tidemill.cli; summary: the
    first line of its help, repeated here because the list shows it without an import."""

    name: str
    place: str
    summary: str

    def load(self) -> TyperCommand | TyperGroup:
        module, _, attribute = self.place.partition(":")
        found = getattr(import_module(f"tidemill.cli.{module}"), attribute)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            alone.command(self.name)(found)
            found = alone
        return cast(TyperCommand | TyperGroup, get_command(found))


class LazyCommand(TyperCommand):
    """Stands in the list for a command, and makes way for it once it is called."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.name, help=entry.summary)
        self._entry = entry

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """The context of the real command, which then is what runs."""
        return self._entry.load().make_context(*args, **kwargs)


def lazy_group(entries: Sequence[Entry]) -> type[TyperGroup]:
    """A class of groups that hold these commands; typer makes the group itself."""

    class LazyGroup(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            for entry in entries:
                self.add_command(LazyCommand(entry))

    return LazyGroup
