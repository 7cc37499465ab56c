"""What is read from a document, and why one is refused."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """Text under one heading path. blocks: paragraphs, list items and table rows, in order."""

    headings: tuple[str, ...]
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class Passage:
    """A piece of a section, small enough to embed and to cite."""

    headings: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Prepared:
    """A document ready to be versioned: no personal data of a recognisable form is left."""

    title: str
    source_uri: str
    passages: tuple[Passage, ...]
    masked_count: int


class Rejected(Exception):
    """The document cannot be taken in. reason: name of an ErrorReason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
