"""Decides what of the model's text may leave, sentence by sentence, before it leaves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.inference.domain.citations import cited, keep_valid
from services.inference.domain.groundedness import Sources, ungrounded
from services.inference.domain.prompts import REFUSAL_TOKEN, Passage, without_special_tokens
from services.inference.domain.refusals import TEXTS, Refusal, is_refusal
from services.inference.domain.sentences import LOOKAHEAD_CHARS, SentenceBuffer

PERSONAL_DATA = "personal_data"
GROUNDEDNESS = "groundedness"


class Masked(Protocol):
    """Text without personal data, and how many pieces were masked."""

    @property
    def text(self) -> str: ...
    @property
    def count(self) -> int: ...


Mask = Callable[[str], Masked]


@dataclass(frozen=True)
class Verdict:
    """What one guardrail did: "passed", "masked", "cut" or "refused"."""

    guardrail: str
    outcome: str


@dataclass(frozen=True)
class GuardedAnswer:
    """What left: the text, the markers in it, the refusal if it is one, and the verdicts."""

    text: str
    markers: tuple[int, ...]
    refusal: Refusal | None
    verdicts: tuple[Verdict, ...]


@dataclass
class _Progress:
    pieces: list[str] = field(default_factory=list)
    context: str = ""
    masked: int = 0
    refusal: Refusal | None = None
    cut: bool = False


class AnswerGuard:
    """Takes the model's deltas and gives back what may be streamed.

    The text that leaves is a function of the model's whole text: how the model server cuts it
    into deltas changes when something leaves, never what.
    """

    def __init__(self, passages: Sequence[Passage], question: str, mask: Mask) -> None:
        self._sources = Sources.of([*_texts(passages), question])
        self._passages = len(passages)
        self._mask = mask
        self._buffer = SentenceBuffer(self._is_safe_cut)
        self._progress = _Progress()

    @property
    def ended(self) -> bool:
        """True when nothing more will leave, so that the model can be stopped."""
        return self._progress.refusal is not None or self._progress.cut

    def feed(self, delta: str) -> str:
        """The text that may leave now that the delta is known; often ""."""
        pieces = map(self._buffer.push, delta)
        return "".join(self._judge(piece) for piece in pieces if piece)

    def finish(self) -> str:
        """The rest of the text once the model is done, or the refusal in words."""
        rest = self._judge(self._buffer.rest())
        if not "".join(self._progress.pieces).strip() and self._progress.refusal is None:
            self._progress.refusal = Refusal.EMPTY_ANSWER
        refusal = self._progress.refusal
        return TEXTS[refusal] if refusal else rest

    def result(self) -> GuardedAnswer:
        """What left, once finish was called."""
        progress = self._progress
        if progress.refusal:
            return GuardedAnswer(TEXTS[progress.refusal], (), progress.refusal, self._verdicts())
        text = "".join(progress.pieces)
        return GuardedAnswer(text, cited(text, self._passages), None, self._verdicts())

    def _judge(self, piece: str) -> str:
        if not piece.strip() or self.ended:
            return ""
        first = not self._progress.pieces
        if is_refusal(piece) if first else REFUSAL_TOKEN in piece:
            return self._end(Refusal.NOT_IN_CONTEXT if first else None)
        if ungrounded(piece, self._sources):
            return self._end(Refusal.UNGROUNDED if first else None)
        return self._release(piece.lstrip() if first else piece)

    def _end(self, refusal: Refusal | None) -> str:
        """Refuses while nothing has left; later the answer ends with its last good sentence."""
        self._progress.refusal = refusal
        self._progress.cut = refusal is None
        return ""

    def _release(self, piece: str) -> str:
        text = self._masked(self._clean(piece))
        if text:
            self._progress.pieces.append(text)
        return text

    def _masked(self, piece: str) -> str:
        """Masks a piece in view of what left before it, such as "call me on"."""
        progress = self._progress
        before, whole = self._mask(progress.context), self._mask(progress.context + piece)
        if not whole.text.startswith(before.text):
            before, whole = self._mask(""), self._mask(piece)
        progress.context = (progress.context + piece)[-LOOKAHEAD_CHARS:]
        progress.masked += whole.count - before.count
        return whole.text[len(before.text) :]

    def _clean(self, piece: str) -> str:
        return keep_valid(without_special_tokens(piece), self._passages)

    def _is_safe_cut(self, head: str, tail: str) -> bool:
        if head[-1:].isdigit() or tail.lstrip()[:1].isdigit():
            return False
        parts = self._mask(self._clean(head)), self._mask(self._clean(tail))
        return "".join(part.text for part in parts) == self._mask(self._clean(head + tail)).text

    def _verdicts(self) -> tuple[Verdict, ...]:
        progress = self._progress
        grounded = "cut" if progress.cut else "passed"
        if progress.refusal is Refusal.UNGROUNDED:
            grounded = "refused"
        return (
            Verdict(PERSONAL_DATA, "masked" if progress.masked else "passed"),
            Verdict(GROUNDEDNESS, grounded),
        )


def _texts(passages: Sequence[Passage]) -> list[str]:
    return [" ".join((passage.title, *passage.headings, passage.text)) for passage in passages]
