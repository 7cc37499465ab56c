"""Cuts a stream of text into pieces that can be judged and masked alone.

Works one character at a time: where the model server cuts its deltas changes nothing.
"""

from collections.abc import Callable

HOLD_CHARS = 240
"""A sentence longer than this is released in parts."""
LOOKAHEAD_CHARS = 64
"""More than any item of personal data with spaces in it (an IBAN has 42)."""
HARD_LIMIT_CHARS = 1024
"""Not even text without a safe place to cut is held for longer."""

_TERMINATORS = ".!?"
_CLOSERS = "\"')]*_\u201d\u2019"

SafeCut = Callable[[str, str], bool]
"""Tells whether nothing that must be seen whole spans head and tail."""


class SentenceBuffer:
    """Holds text until a piece of it is complete."""

    def __init__(self, safe_cut: SafeCut) -> None:
        self._safe_cut = safe_cut
        self._held = ""

    def push(self, character: str) -> str:
        """Takes one character; returns the piece that it completes, or ""."""
        cut = self._sentence_end(character)
        self._held += character
        if cut == 0 and character.isspace() and len(self._held) > HOLD_CHARS:
            cut = self._forced_cut()
        if cut == 0 and len(self._held) >= HARD_LIMIT_CHARS:
            cut = HARD_LIMIT_CHARS - LOOKAHEAD_CHARS
        return self._take(cut)

    def rest(self) -> str:
        """Everything that is still held."""
        return self._take(len(self._held))

    def _sentence_end(self, following: str) -> int:
        """Length held when the following character begins a new sentence, else 0.

        Never next to a digit: "28. 7" or a number over two lines may be one item.
        """
        if following.isspace() or following.isdigit() or not self._held[-1:].isspace():
            return 0
        said = self._held.rstrip()
        new_line = "\n" in self._held[len(said) :]
        terminated = said.rstrip(_CLOSERS)[-1:] in _TERMINATORS and not following.islower()
        before = said.rstrip(_TERMINATORS + _CLOSERS.replace("]", ""))[-1:]  # "[1]" is no figure
        return len(said) if (new_line or terminated) and not before.isdigit() else 0

    def _forced_cut(self) -> int:
        end = len(self._held) - LOOKAHEAD_CHARS
        while (end := self._held.rfind(" ", 0, end)) > 0:
            if self._safe_cut(self._held[:end], self._held[end:]):
                return end
        return 0

    def _take(self, length: int) -> str:
        piece, self._held = self._held[:length], self._held[length:]
        return piece
