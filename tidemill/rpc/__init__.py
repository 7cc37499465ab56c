"""gRPC with verified callers, declared limits, deadlines and machine-readable errors."""

from tidemill.rpc.caller import current_caller
from tidemill.rpc.client import Channels, call, stream
from tidemill.rpc.server import RpcServer, open_server

__all__ = ["Channels", "RpcServer", "call", "current_caller", "open_server", "stream"]
