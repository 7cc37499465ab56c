"""Exit 0 when a service of this machine serves: python -m services.health NAME.

Asks grpc.health.v1, whose answer says that rows answer, consumers make progress and the service's
own conditions hold. Imports little, because containers run it again and again.
"""

import os
import sys
from pathlib import Path

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tidemill.names import FIRST_GRPC_PORT, SERVICES

SECONDS = 5.0
USAGE = 2


def serves(address: str, authority: Path | None) -> bool:
    """authority: the certificate that signed the server's; None for plaintext on loopback."""
    with open_channel(address, authority) as channel:
        check = HealthStub(channel).Check  # type: ignore[attr-defined]
        try:
            answer = check(HealthCheckRequest(), timeout=SECONDS)
        except grpc.RpcError:
            return False
    return bool(answer.status == HealthCheckResponse.SERVING)


def open_channel(address: str, authority: Path | None) -> grpc.Channel:
    if authority is None:
        return grpc.insecure_channel(address)
    credentials = grpc.ssl_channel_credentials(authority.read_bytes())
    return grpc.secure_channel(address, credentials)


def address_of(name: str) -> str:
    """The service's own port on this machine; services.__main__ binds the same one."""
    base = int(os.environ.get("TIDEMILL_PORT_BASE", "7700"))
    return f"localhost:{base + FIRST_GRPC_PORT + SERVICES.index(name)}"


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in SERVICES:
        sys.stderr.write(f"usage: python -m services.health {'|'.join(SERVICES)}\n")
        return USAGE
    authority = os.environ.get("TIDEMILL_TLS_AUTHORITY")
    serving = serves(address_of(sys.argv[1]), Path(authority) if authority else None)
    return 0 if serving else 1


if __name__ == "__main__":
    sys.exit(main())
