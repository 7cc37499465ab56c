"""tidemill credentials: key and certificates of a mesh whose services listen beyond loopback."""

from datetime import UTC, datetime

import typer

from tidemill.cli.context import JSON_OPTION, open_context, run
from tidemill.security.certificates import ensure_certificates
from tidemill.security.keys import load_or_create_key
from tidemill.settings import SERVICES

LOCAL_NAMES = ("localhost", "127.0.0.1")


def credentials(
    name: list[str] = typer.Option([], "--name", help="Another host name or address of a server."),
    json_mode: bool = JSON_OPTION,
) -> None:
    """Make the mesh's key and TLS certificates under home; what is there and good stays."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        folder = context.settings.home / "keys"
        names = [*SERVICES, *LOCAL_NAMES, *name]
        key = load_or_create_key(folder)
        made = ensure_certificates(folder, names, datetime.now(UTC))
        context.output.document(
            {"folder": str(folder), "key_id": key.key_id, "certificates_made": made, "names": names}
        )
        done = "Made" if made else "Kept"
        context.output.line(f"{done} certificates for {', '.join(names)} in {folder}.")

    run(context, work())
