"""tidemill keys list, next, switch: the key that signs the mesh's tokens, and its change."""

from datetime import UTC, datetime, timedelta

import typer

from tidemill.cli.context import JSON_OPTION, open_context, run
from tidemill.security import rotation
from tidemill.security.keys import mesh_key

HELP = "The mesh's key: list, next, switch."
app = typer.Typer(no_args_is_help=True, add_completion=False, help=HELP)


@app.command("list")
def list_keys(json_mode: bool = JSON_OPTION) -> None:
    """Show which keys' tokens count, and until when."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        key = mesh_key(context.settings.home / "keys", create=False)
        rows = [{"key_id": key.key_id, "signs": True, "until": ""}]
        for each in key.trusted:
            until = each.until.isoformat() if each.until else ""
            rows.append({"key_id": each.key_id, "signs": False, "until": until})
        context.output.document({"keys": rows})
        context.output.table(("key", "signs", "until"), [[*row.values()] for row in rows])

    run(context, work())


@app.command("next")
def make_next(json_mode: bool = JSON_OPTION) -> None:
    """Make the next key; services trust it from their next start on."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        key_id = rotation.make_next(context.settings.home / "keys")
        context.output.document({"next": key_id})
        context.output.line(f"Made {key_id}. Restart every service, then: tidemill keys switch")

    run(context, work())


@app.command()
def switch(
    hours: float = typer.Option(24.0, min=0.0, help="How long tokens of the key before count."),
    json_mode: bool = JSON_OPTION,
) -> None:
    """Let the next key sign, from each service's next start on; restart all within the hours."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        until = datetime.now(UTC) + timedelta(hours=hours)
        done = rotation.switch(context.settings.home / "keys", until)
        context.output.document(
            {"before": done.before, "after": done.after, "until": until.isoformat()}
        )
        told = f"{done.after} signs, {done.before} counts until {until:%Y-%m-%d %H:%M} UTC."
        context.output.line(f"{told} Restart every service before then.")

    run(context, work())
