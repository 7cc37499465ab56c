"""The two kinds of failure: a request that is refused, and a broker that cannot start."""

from typing import Any

from kio.schema.errors import ErrorCode


class RequestRefused(Exception):
    """A request, or one part of it, is answered with a Kafka error code.

    `message` reaches the client, so it never holds exception text.
    """

    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        super().__init__(code.name)
        self.code = code
        self.message = message


class MalformedRequest(Exception):
    """Bytes that are no request: the connection is closed with this reason in the log.

    `asked` is the header of a request that can be read but is not spoken.
    """

    def __init__(self, reason: str, *, asked: Any = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.asked = asked


class StartupRefused(Exception):
    """The broker cannot start; `reason` is for machines, `advice` says what to change."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason}: {advice}")
        self.reason = reason
        self.advice = advice
