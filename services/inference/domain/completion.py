"""What the model is asked, and the pieces in which it replies."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class CompletionRequest:
    """One prompt, answered greedily. adapter: None asks the base model. Times in seconds."""

    request_id: str
    prompt: str
    max_tokens: int
    stop: tuple[str, ...] = ()
    adapter: str | None = None
    first_token_timeout: float = 30.0
    timeout: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Delta:
    """A piece of text. Output tokens are this piece's; finish_reason is "" until the last."""

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    finish_reason: str = ""


class Model(Protocol):
    """A language model behind some server."""

    @property
    def name(self) -> str: ...

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Delta, None]:
        """Deltas until the model is done. Closing the iterator stops the model."""
        ...
