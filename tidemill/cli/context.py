"""What every command needs: settings, a tenant, tokens, and a loop that ends with errors told.

Clients of Kafka and gRPC and the keys are imported where they are used: `tidemill up` starts the
mesh before it needs any of them.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from tidemill.cli.output import CommandFailed, Output, failure_of
from tidemill.cli.scopes import ALL_SCOPES
from tidemill.clock import SystemClock
from tidemill.faults import Fault, StartRefused
from tidemill.names import TENANT_PATTERN
from tidemill.settings import MeshSettings

if TYPE_CHECKING:
    from tidemill.client import Client
    from tidemill.rpc import Channels
    from tidemill.security.tokens import Identity

DEFAULT_TENANT = "local"
TOKEN_LIFETIME = timedelta(hours=1)

JSON_OPTION = typer.Option(False, "--json", help="Print one JSON document instead of text.")
TENANT_OPTION = typer.Option(
    DEFAULT_TENANT, "--tenant", envvar="TIDEMILL_TENANT", help="Tenant to act for."
)


@dataclass(frozen=True)
class Context:
    """A command's surroundings. The tokens are minted with the local mesh's own key."""

    settings: MeshSettings
    tenant_id: str
    output: Output

    def identity(self) -> "Identity":
        from tidemill.security.keys import load_or_create_key
        from tidemill.security.tokens import Identity

        key = load_or_create_key(self.settings.home / "keys")
        return Identity(key, "cli", SystemClock())

    def mint(self, audience: str) -> str:
        return self.identity().mint(
            self.tenant_id, ALL_SCOPES, audience=audience, lifetime=TOKEN_LIFETIME
        )

    @property
    def token(self) -> str:
        return self.mint("tidemill.rpc")

    @asynccontextmanager
    async def client(self) -> AsyncIterator["Client"]:
        from tidemill.client import connect

        async with connect(self.settings, self.tenant_id, self.mint) as client:
            yield client

    @asynccontextmanager
    async def channels(self) -> AsyncIterator["Channels"]:
        from tidemill.rpc import Channels

        channels = Channels(self.settings)
        try:
            yield channels
        finally:
            await channels.close()


def open_context(tenant_id: str = DEFAULT_TENANT, json_mode: bool = False) -> Context:
    output = Output(json_mode)
    settings = MeshSettings()
    settings = settings.model_copy(update={"home": settings.home.expanduser().resolve()})
    if not TENANT_PATTERN.fullmatch(tenant_id):
        fail(output, CommandFailed("INVALID_ARGUMENT", "a tenant is a-z, 0-9, - and _", 2))
    return Context(settings, tenant_id, output)


def fail(output: Output, failed: CommandFailed) -> NoReturn:
    output.failure(failed)
    raise typer.Exit(failed.exit_code)


def run(context: Context, work: Coroutine[Any, Any, None]) -> None:
    """Run a command's coroutine; expected failures end in one line and an exit code."""
    try:
        asyncio.run(work)
    except CommandFailed as failed:
        fail(context.output, failed)
    except Fault as fault:
        fail(context.output, failure_of(fault))
    except StartRefused as refused:
        fail(context.output, CommandFailed(refused.reason, refused.hint, 2))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
