"""Tokens to text and back, piece by piece, with stop strings held back until they are sure."""

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class TextStream:
    """Turns one completion's tokens into pieces of text that never need to be taken back."""

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._stop = stop
        self._held = ""

    def push(self, token: int) -> tuple[str, bool]:
        """Text that this token settles, and whether a stop string was reached."""
        self._held += self._decoder.step(self._tokenizer, token) or ""
        found = [at for at in (self._held.find(text) for text in self._stop) if at >= 0]
        if found:
            return self._held[: min(found)], True
        return self._release(len(self._held) - self._undecided()), False

    def flush(self) -> str:
        """What was held back, once the completion has ended."""
        return self._release(len(self._held))

    def _release(self, size: int) -> str:
        settled, self._held = self._held[:size], self._held[size:]
        return settled

    def _undecided(self) -> int:
        """Length of the longest tail that could still become a stop string."""
        sizes = [
            size
            for text in self._stop
            for size in range(1, len(text))
            if self._held.endswith(text[:size])
        ]
        return max(sizes, default=0)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The fast tokenizer of a Hugging Face folder."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
