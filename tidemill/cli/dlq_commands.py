"""tidemill dlq list, show, replay: events that a consumer gave up, and how they come back."""

from typing import Any

import typer
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from tidemill.bus.dead_letters import list_dead_letters, replay_dead_letters, show_dead_letter
from tidemill.bus.letters import DeadLetter
from tidemill.cli.context import JSON_OPTION, open_context, run
from tidemill.cli.output import CommandFailed
from tidemill.topics import find_topic

app = typer.Typer(no_args_is_help=True, help="Dead letters: list, show, replay.")
TOPIC_OPTION = typer.Option(None, "--topic", help="Only letters of this topic.")


@app.command("list")
def list_letters(
    topic: str = TOPIC_OPTION,
    limit: int = typer.Option(100, min=1, help="The newest so many."),
    json_mode: bool = JSON_OPTION,
) -> None:
    """List the dead letters with their reason and the consumer that gave up."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        letters = await list_dead_letters(context.settings.kafka_address, topic, limit=limit)
        rows = [row_of(letter) for letter in letters]
        context.output.document({"dead_letters": rows})
        columns = ("id", "topic", "reason", "consumer", "origin", "replays")
        context.output.table(columns, [[row[c] for c in columns] for row in rows])
        if not rows:
            context.output.line("No dead letters.")

    run(context, work())


def row_of(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.letter_id,
        "topic": letter.topic,
        "reason": letter.reason,
        "consumer": letter.consumer,
        "origin": letter.origin,
        "event_id": letter.event_id,
        "replays": letter.replays,
    }


@app.command("show")
def show(
    letter_id: str = typer.Argument(..., help="Id that `tidemill dlq list` printed."),
    json_mode: bool = JSON_OPTION,
) -> None:
    """Show one dead letter with its event. The event may hold users' text."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        content = await show_dead_letter(context.settings.kafka_address, letter_id)
        body = readable(content.letter.topic, content.value)
        context.output.document(row_of(content.letter) | {"event": body})
        for name, value in row_of(content.letter).items():
            context.output.line(f"{name:<10} {value}")
        context.output.line(str(body))

    run(context, work())


def readable(topic: str, value: bytes | None) -> Any:
    """The event as JSON where it can be read, else how long it is."""
    message = find_topic(topic).message()
    try:
        message.ParseFromString(value or b"")
    except DecodeError:
        return f"{len(value or b'')} bytes that are no {message.DESCRIPTOR.name}"
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


@app.command("replay")
def replay(
    letter_id: str = typer.Argument(None, help="One letter; without it, those the options choose."),
    topic: str = TOPIC_OPTION,
    reason: str = typer.Option(None, "--reason", help="Only letters with this reason."),
    everything: bool = typer.Option(False, "--all", help="Every dead letter."),
    json_mode: bool = JSON_OPTION,
) -> None:
    """Send dead letters again to the consumer that gave them up; applied once however often."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        if not (letter_id or topic or reason or everything):
            hint = "name a letter, --topic, --reason, or --all"
            raise CommandFailed("INVALID_ARGUMENT", hint, 2)
        report = await replay_dead_letters(
            context.settings.kafka_address,
            context.identity(),
            letter_id=letter_id,
            topic=topic,
            reason=reason,
        )
        counts = {
            "replayed": len(report.replayed),
            "refused": len(report.refused),
            "settled": len(report.settled),
        }
        context.output.document(counts)
        context.output.line(
            f"Replayed {counts['replayed']}; left {counts['settled']} that were replayed before; "
            f"refused {counts['refused']} whose sender was never verified."
        )

    run(context, work())
