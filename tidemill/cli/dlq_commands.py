"""tidemill dlq list, show, replay, drop: events that a consumer gave up; what becomes of them."""

import getpass
from collections import Counter
from typing import Any

import typer
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from tidemill.bus.dead_letters.actions import (
    choose,
    drop_dead_letters,
    list_dead_letters,
    replay_dead_letters,
    show_dead_letter,
)
from tidemill.bus.dead_letters.log import DeadLetter
from tidemill.bus.dead_letters.status import State
from tidemill.cli.context import JSON_OPTION, open_context, run
from tidemill.cli.output import CommandFailed
from tidemill.timestamps import clear_impossible_times
from tidemill.topics import find_topic

HELP = "Dead letters: list, show, replay, drop."
app = typer.Typer(no_args_is_help=True, add_completion=False, help=HELP)
TOPIC_OPTION = typer.Option(None, "--topic", help="Only letters of this topic.")
REASON_OPTION = typer.Option(None, "--reason", help="Only letters with this reason.")
ALL_OPTION = typer.Option(False, "--all", help="Every dead letter.")
ONE_ARGUMENT = typer.Argument(None, help="One letter; without it, those the options choose.")
STATE_HELP = (
    "dead_lettered, replayed, healed, dropped, superseded, or all; the first two without it."
)
OPEN = (State.DEAD_LETTERED, State.REPLAYED)
EVERY = 2**31
MAX_WHY = 200


@app.command("list")
def list_letters(
    topic: str = TOPIC_OPTION,
    state: str = typer.Option(None, "--state", help=STATE_HELP),
    limit: int = typer.Option(100, min=1, help="The newest so many."),
    json_mode: bool = JSON_OPTION,
) -> None:
    """List the dead letters with their state, their reason and the consumer that gave up."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        states = states_of(state)
        letters = await list_dead_letters(context.settings.kafka_address, topic, limit=EVERY)
        rows = [row_of(letter) for letter in letters if letter.state in states][-limit:]
        found = Counter(letter.state for letter in letters)
        counts = {kind.value: found[kind] for kind in State}
        context.output.document({"dead_letters": rows, "counts": counts})
        columns = ("id", "state", "topic", "reason", "consumer", "origin", "replays")
        context.output.table(columns, [[row[c] for c in columns] for row in rows])
        told = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
        context.output.line(f"Dead letters: {told}." if told else "No dead letters.")

    run(context, work())


def states_of(name: str | None) -> tuple[State, ...]:
    """The states that --state names; a wrong one is the caller's to change."""
    if name is None:
        return OPEN
    if name == "all":
        return tuple(State)
    try:
        return (State(name),)
    except ValueError as error:
        raise CommandFailed("INVALID_ARGUMENT", f"--state is one of: {STATE_HELP}", 2) from error


def row_of(letter: DeadLetter) -> dict[str, Any]:
    drop = letter.standing.drop
    dropped = {"by": drop.by, "why": drop.why, "at": drop.at.isoformat()} if drop else None
    return {
        "id": letter.letter_id,
        "state": letter.state.value,
        "topic": letter.topic,
        "reason": letter.reason,
        "consumer": letter.consumer,
        "origin": letter.origin,
        "event_id": letter.event_id,
        "replays": letter.replays,
        "dropped": dropped,
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
    """The event as JSON where it can be read, else how long it is. A time that JSON cannot say
    stands beside it as it is."""
    message = find_topic(topic).message()
    try:
        message.ParseFromString(value or b"")
    except DecodeError:
        return f"{len(value or b'')} bytes that are no {message.DESCRIPTOR.name}"
    impossible = clear_impossible_times(message)
    body = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return body | {"impossible_times": impossible} if impossible else body


@app.command("replay")
def replay(
    letter_id: str = ONE_ARGUMENT,
    topic: str = TOPIC_OPTION,
    reason: str = REASON_OPTION,
    everything: bool = ALL_OPTION,
    json_mode: bool = JSON_OPTION,
) -> None:
    """Send dead letters again to the consumer that gave them up; applied once however often."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        check_choice(letter_id, topic, reason, everything)
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
            f"Replayed {counts['replayed']}; left {counts['settled']} that were settled before; "
            f"refused {counts['refused']} whose sender was never verified."
        )

    run(context, work())


def check_choice(
    letter_id: str | None, topic: str | None, reason: str | None, everything: bool
) -> None:
    if not (letter_id or topic or reason or everything):
        hint = "name a letter, --topic, --reason, or --all"
        raise CommandFailed("INVALID_ARGUMENT", hint, 2)


@app.command("drop")
def drop(
    letter_id: str = ONE_ARGUMENT,
    topic: str = TOPIC_OPTION,
    reason: str = REASON_OPTION,
    everything: bool = ALL_OPTION,
    why: str = typer.Option(..., "--why", help="Why nobody needs them; kept with the letter."),
    by: str = typer.Option(None, "--by", help="Who decides; the user of this shell without it."),
    yes: bool = typer.Option(False, "--yes", help="Drop more than one letter without a question."),
    json_mode: bool = JSON_OPTION,
) -> None:
    """Take dead letters off the list for good: they are not replayed unless named by their id."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        check_choice(letter_id, topic, reason, everything)
        if not 0 < len(why) <= MAX_WHY:
            raise CommandFailed("INVALID_ARGUMENT", f"--why has 1 to {MAX_WHY} characters", 2)
        address = context.settings.kafka_address
        if not (letter_id or yes):
            await ask_first(address, topic, reason)
        report = await drop_dead_letters(
            address,
            by=by or getpass.getuser(),
            why=why,
            letter_id=letter_id,
            topic=topic,
            reason=reason,
        )
        counts = {"dropped": len(report.dropped), "settled": len(report.settled)}
        context.output.document(counts)
        context.output.line(
            f"Dropped {counts['dropped']}; left {counts['settled']} that were settled before."
        )

    run(context, work())


async def ask_first(address: str, topic: str | None, reason: str | None) -> None:
    """Refuses, and says how many letters the same call with --yes would drop."""
    found = [
        x for x in await choose(address, None, topic, reason) if x.state is State.DEAD_LETTERED
    ]
    hint = f"{len(found)} letters would be dropped; add --yes to drop them"
    raise CommandFailed("CONFIRMATION_NEEDED", hint, 2, {"would_drop": len(found)})
