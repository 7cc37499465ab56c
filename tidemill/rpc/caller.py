"""The caller of the RPC that is being served."""

from contextvars import ContextVar

from tidemill.security.tokens import Caller

_CALLER: ContextVar[Caller] = ContextVar("tidemill_caller")


def current_caller() -> Caller:
    """Who called; LookupError outside an RPC."""
    return _CALLER.get()


def set_caller(caller: Caller) -> None:
    _CALLER.set(caller)
