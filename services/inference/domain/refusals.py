"""What a refusal looks like, from the model and to the user."""

import re
from enum import StrEnum

from services.inference.domain.prompts import REFUSAL_TOKEN


class Refusal(StrEnum):
    """Machine-readable reasons of a refusal."""

    NO_RELEVANT_DOCUMENT = "NO_RELEVANT_DOCUMENT"
    """No chunk is near enough to the question; the model was not asked."""
    NOT_IN_CONTEXT = "NOT_IN_CONTEXT"
    """The model says that the passages do not hold the answer."""
    UNGROUNDED = "UNGROUNDED"
    """The answer names a figure or a name that no passage holds."""
    EMPTY_ANSWER = "EMPTY_ANSWER"
    """The model wrote nothing."""


TEXTS = {
    Refusal.NO_RELEVANT_DOCUMENT: "I found no document about this.",
    Refusal.NOT_IN_CONTEXT: "The documents that I found do not answer this.",
    Refusal.UNGROUNDED: "I found related documents, but no answer that they support.",
    Refusal.EMPTY_ANSWER: "I could not form an answer to this.",
}

_PASSAGES = r"(?:the |these |those |any of the |provided |given )*"
_PASSAGES += r"(?:passages?|documents?|context|text|sources?|information)"
_HOLD = (
    r"(?:hold|contain|mention|provide|specify|state|include|say|answer|give|have|list|discuss)s?"
)
_NATURAL = re.compile(
    "|".join(
        (
            r"i(?:'m| am)? ?(?:sorry|afraid)\b",
            r"(?:unfortunately,? )?i (?:do not|don't|cannot|can't|could not|couldn't)"
            r" (?:know|find|answer|determine|provide|say|see|tell)\b",
            r"i(?:'m| am) (?:unable|not able|not sure)\b",
            rf"(?:unfortunately,? )?{_PASSAGES} (?:(?:do|does|did) not|don't|doesn't) {_HOLD}\b",
            r"there is (?:no|not enough) (?:\w+ )?(?:information|mention|answer)\b",
            r"(?:the answer|this|that|it)(?: information)? (?:is not|isn't|cannot be|can't be)"
            r" (?:\w+ )?(?:in|found|given|held|known|mentioned|provided|specified|stated"
            r"|determined|answered)\b",
            r"not (?:mentioned|stated|specified|given|provided|available)\b",
            r"(?:no answer|unknown|no information|n/a)(?:[.!]|$)",
        )
    )
)


def is_refusal(sentence: str) -> bool:
    """True when a sentence says that there is no answer, in the trained or in natural words."""
    said = " ".join(sentence.replace("\u2019", "'").lower().split()).lstrip("\"'*_-# ")
    return _says_token(said.upper()) or bool(_NATURAL.match(said))


def _says_token(said: str) -> bool:
    """The token anywhere, or its beginning when the model ran out of tokens within it."""
    return REFUSAL_TOKEN in said or (len(said) > 5 and REFUSAL_TOKEN.startswith(said))
