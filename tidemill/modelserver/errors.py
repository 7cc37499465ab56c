"""What can go wrong at the model server, each with a machine-readable reason."""

OVERLOADED = "MODEL_OVERLOADED"
PROMPT_TOO_LONG = "PROMPT_TOO_LONG"
REFUSALS = ("must be", "cannot be", "is not allowed", "by the cpu engine", "wrong type", "not json")
"""How the backends put it that a request is wrong."""
TOO_LONG = (
    "longer than the maximum model length",
    "maximum context length",
    "reduce the length of the",
    "exceeds the maximum model length",
    "exceeds max_model_len",
)
"""How vLLM's releases, and the CPU engine, put it that a prompt does not fit the model."""


class ModelServerError(Exception):
    """Base of all; the text is the reason alone, never the server's own words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ModelServerUnavailable(ModelServerError):
    """The server, or the model in it, cannot answer now; trying again later may help."""


class ModelStalled(ModelServerError):
    """A started request stopped giving results within its time."""


class NoProgress(ModelStalled):
    """No result came within the time for the next one."""


class TimeRanOut(ModelStalled):
    """The time that was given for all of a completion is over; the server may be well."""


class AdapterNotFound(ModelServerError):
    """The server knows no adapter of that name."""


class AdapterConflict(ModelServerError):
    """The adapter's name is taken by other content; names never change meaning."""


class InvalidRequest(ModelServerError):
    """The request itself is wrong; trying again will not help."""


def from_server(code: str, message: str) -> ModelServerError:
    """The error for a gRPC status name (such as "UNAVAILABLE") and the server's message.

    The real vLLM backend answers most of its errors as INTERNAL, and in a stream none has a status,
    so their words decide.
    """
    words = message.lower()
    if "lora" in words and ("is not supported" in words or "not enabled" in words):
        return AdapterNotFound("ADAPTER_NOT_FOUND")
    if "unexpected keyword argument" in words:
        return InvalidRequest("UNKNOWN_SAMPLING_PARAMETER")
    if any(each in words for each in TOO_LONG):
        return InvalidRequest(PROMPT_TOO_LONG)
    if "maximum queue size" in words or "request timeout expired" in words:
        return ModelServerUnavailable(OVERLOADED)
    if "is not healthy" in words:
        return ModelServerUnavailable("MODEL_CRASHED")
    if "protocol is restricted" in words:
        return InvalidRequest("ADMIN_TOKEN_REQUIRED")
    if code == "INVALID_ARGUMENT" or any(each in words for each in REFUSALS):
        return InvalidRequest("INVALID_REQUEST")
    if code in {"NOT_FOUND", "UNIMPLEMENTED"} or "unknown model" in words:
        return ModelServerUnavailable("MODEL_NOT_LOADED")
    if code == "DEADLINE_EXCEEDED":
        return ModelStalled("DEADLINE_EXCEEDED")
    if code == "INTERNAL":
        return ModelServerUnavailable("MODEL_FAILED")
    return ModelServerUnavailable("MODEL_SERVER_UNAVAILABLE")
