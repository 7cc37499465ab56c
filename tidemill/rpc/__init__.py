"""gRPC with verified callers, declared limits, deadlines and machine-readable errors.

The names load on first use: a client, such as the command line, needs no server.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidemill.rpc.caller import current_caller
    from tidemill.rpc.client import Channels, call, stream
    from tidemill.rpc.server import RpcServer, open_server

__all__ = ["Channels", "RpcServer", "call", "current_caller", "open_server", "stream"]

_HOMES = {
    "Channels": "client",
    "RpcServer": "server",
    "call": "client",
    "current_caller": "caller",
    "open_server": "server",
    "stream": "client",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
