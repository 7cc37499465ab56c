"""The prompts, by immutable version: a changed word is a new version."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

DEFAULT_PROMPT = "grounded-answer@1"
REFUSAL_TOKEN = "NOT_IN_CONTEXT"  # noqa: S105

_TURN_START = "<|im_start|>"
_TURN_END = "<|im_end|>"
_SPECIAL_TOKEN = re.compile(r"<\|[a-z_]{1,32}\|>")


@dataclass(frozen=True)
class Passage:
    """A chunk as the prompt shows it; markers count from 1."""

    marker: int
    title: str
    headings: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Prompt:
    """One version: the instruction, and where the model's text ends."""

    version: str
    instruction: str
    stop: tuple[str, ...]

    def build(self, passages: Sequence[Passage], question: str) -> str:
        """The exact string for the model server, up to where the model's text starts."""
        context = "\n".join(_line(passage) for passage in passages)
        user = f"{context}\n\nQuestion: {plain(question)}"
        return _turn("system", self.instruction) + _turn("user", user) + _open_turn("assistant")


class UnknownPrompt(LookupError):
    """No prompt has this version."""


def find_prompt(version: str) -> Prompt:
    """The prompt of that version, the default for ""; UnknownPrompt when there is none."""
    prompt = PROMPTS.get(version or DEFAULT_PROMPT)
    if prompt is None:
        raise UnknownPrompt(version)
    return prompt


def plain(text: str) -> str:
    """The text on one line and without the template's tokens.

    Neither a document nor a user can then open a turn, forge a passage or ask a second question.
    """
    return " ".join(without_special_tokens(text).split())


def without_special_tokens(text: str) -> str:
    """The text without tokens such as "<|im_end|>"."""
    stripped = _SPECIAL_TOKEN.sub("", text)
    while stripped != text:  # removing one token can join the halves of another
        text, stripped = stripped, _SPECIAL_TOKEN.sub("", stripped)
    return stripped


def _line(passage: Passage) -> str:
    # A document's first heading is most often its title: said once, it saves a twentieth.
    parts = dict.fromkeys(plain(part) for part in (passage.title, *passage.headings))
    place = " > ".join(parts)
    return f"[{passage.marker}] {place}: {plain(passage.text)}"


def _turn(role: str, content: str) -> str:
    return f"{_open_turn(role)}{content}{_TURN_END}\n"


def _open_turn(role: str) -> str:
    return f"{_TURN_START}{role}\n"


PROMPTS: Mapping[str, Prompt] = MappingProxyType(
    {
        prompt.version: prompt
        for prompt in (
            Prompt(
                version=DEFAULT_PROMPT,
                instruction=(
                    "Answer from the passages only, in a few words, and cite the passage like [1]."
                    f" If the passages do not hold the answer, reply {REFUSAL_TOKEN}."
                ),
                stop=(_TURN_END, _TURN_START),
            ),
        )
    }
)
