"""Collects headings and blocks, as a reader meets them, into sections."""

from services.ingest.domain.cleaning import one_line
from services.ingest.domain.documents import Section

MAX_HEADING = 200


class Outline:
    """Headings open sections; blocks fill the one that is open. Levels count from 1."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._blocks: list[str] = []
        self._sections: list[Section] = []

    def heading(self, level: int, text: str) -> None:
        name = one_line(text)[:MAX_HEADING]
        if not name:
            return
        self._close()
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._path.append((level, name))

    def block(self, text: str) -> None:
        if text.strip():
            self._blocks.append(text)

    def sections(self) -> list[Section]:
        """All sections that hold text, in order; call once, at the end."""
        self._close()
        return self._sections

    def _close(self) -> None:
        if self._blocks:
            headings = tuple(name for _, name in self._path)
            self._sections.append(Section(headings, tuple(self._blocks)))
            self._blocks = []
