"""tidemill submit, ask, feedback: what a product service does."""

import asyncio
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from tidemill.api.common.v1 import (
    SUBMISSION_STATE_ACCEPTED,
    SUBMISSION_STATE_DEAD_LETTERED,
    SUBMISSION_STATE_RECEIVED,
    SUBMISSION_STATE_REJECTED,
    Usage,
)
from tidemill.api.events.v1 import FeedbackSubmitted
from tidemill.api.inference.v1 import GenerationCompleted, GetAnswerRequest, InferenceServiceStub
from tidemill.api.ingest.v1 import (
    DOCUMENT_STATE_CHUNKED,
    Document,
    GetDocumentRequest,
    IngestServiceStub,
)
from tidemill.cli.context import JSON_OPTION, TENANT_OPTION, Context, open_context, run
from tidemill.cli.documents import DocumentFile, collect
from tidemill.cli.output import CommandFailed
from tidemill.client import Client
from tidemill.faults import Fault, Reason
from tidemill.rpc import call

INDEX_SECONDS = 180.0
FEEDBACK_SECONDS = 30.0
RPC_SECONDS = 10.0
LOOK_EVERY_SECONDS = 0.2
REFUSED = (SUBMISSION_STATE_REJECTED, SUBMISSION_STATE_DEAD_LETTERED)


@dataclass(frozen=True)
class Outcome:
    """What became of a submitted document. rejected: the reason, if it was."""

    version: int = 0
    chunks: int = 0
    rejected: str = ""


def submit(
    paths: list[Path] = typer.Argument(..., help="Files and folders."),
    wait: bool = typer.Option(True, help="Wait until searches find the documents."),
    tenant: str = TENANT_OPTION,
    json_mode: bool = JSON_OPTION,
) -> None:
    """Submit documents as Kafka events and wait until they are searchable."""
    context = open_context(tenant, json_mode)

    async def work() -> None:
        files = collect(paths)
        async with context.client() as client:
            events = [await submit_file(client, file) for file in files]
            context.output.note(f"  submitted {len(files)} documents")
            done = await wait_for(client, files, events) if wait else []
        show_submitted(context, files, events, done)

    run(context, work())


async def submit_file(client: Client, file: DocumentFile) -> str:
    content = await asyncio.to_thread(file.path.read_bytes)
    return await client.submit_document(
        file.document_id, file.media_type, content, title=file.path.stem, uri=file.path.name
    )


async def wait_for(client: Client, files: list[DocumentFile], events: list[str]) -> list[Outcome]:
    """What became of each, once it is known of all."""
    deadline = time.monotonic() + INDEX_SECONDS
    pending, done = dict(enumerate(zip(files, events, strict=True))), dict[int, Outcome]()
    while pending:
        for number, (file, event_id) in list(pending.items()):
            outcome = await outcome_of(client, file.document_id, event_id)
            if outcome is not None:
                done[number] = outcome
                del pending[number]
        if time.monotonic() > deadline:
            raise CommandFailed("INDEX_TIMEOUT", f"{len(pending)} documents are not indexed yet")
        await asyncio.sleep(LOOK_EVERY_SECONDS if pending else 0)
    return [done[number] for number in sorted(done)]


async def outcome_of(client: Client, document_id: str, event_id: str) -> Outcome | None:
    """None while ingest has not taken the event, or its version is not searchable."""
    submission = await client.document_submission(event_id)
    if submission is None or submission.state == SUBMISSION_STATE_RECEIVED:
        return None
    if submission.state in REFUSED:
        return Outcome(rejected=submission.reason)
    document = await find_document(client, document_id)
    if document is None or document.state == DOCUMENT_STATE_CHUNKED:
        return None
    return Outcome(document.version, document.chunk_count)


async def find_document(client: Client, document_id: str) -> Document | None:
    stub = IngestServiceStub(client.channels.to("ingest"))
    request = GetDocumentRequest(document_id=document_id)
    try:
        response = await call(stub.GetDocument, request, token=client.token, timeout=RPC_SECONDS)
    except Fault as fault:
        if fault.reason is Reason.DOCUMENT_NOT_FOUND:
            return None
        raise
    document: Document = response.document
    return document


def show_submitted(
    context: Context, files: list[DocumentFile], events: list[str], done: list[Outcome]
) -> None:
    rows: list[dict[str, Any]] = [
        {"document_id": f.document_id, "event_id": e} for f, e in zip(files, events, strict=True)
    ]
    for row, outcome in zip(rows, done, strict=False):
        row |= asdict(outcome)
    columns = ("document_id", "version", "chunks", "rejected")
    context.output.table(columns, [[row.get(c, "") for c in columns] for row in rows])
    rejected = [f"{row['document_id']} ({row['rejected']})" for row in rows if row.get("rejected")]
    if rejected:
        names = ", ".join(rejected)
        raise CommandFailed("DOCUMENTS_REJECTED", names, facts={"documents": rows})
    context.output.document({"documents": rows})


def ask(
    question: str = typer.Argument(..., help="The question."),
    user: str = typer.Option("", "--user", help="End user; keeps a user on one release."),
    tenant: str = TENANT_OPTION,
    json_mode: bool = JSON_OPTION,
) -> None:
    """Ask a question and stream the answer with its citations."""
    context = open_context(tenant, json_mode)

    async def work() -> None:
        async with context.client() as client:
            answer_id = release_id = ""
            async for response in client.generate(question, end_user_id=user):
                if response.HasField("started"):
                    answer_id, release_id = response.started.answer_id, response.started.release_id
                elif response.HasField("completed"):
                    show_answer(context, answer_id, release_id, response.completed)
                else:
                    context.output.raw(response.text_delta)

    run(context, work())


def show_answer(
    context: Context, answer_id: str, release_id: str, completed: GenerationCompleted
) -> None:
    usage: Usage = completed.usage
    context.output.document(
        {
            "answer_id": answer_id,
            "release_id": release_id,
            "text": completed.text,
            "refused": completed.refused,
            "refusal_reason": completed.refusal_reason,
            "citations": [
                {
                    "marker": c.marker,
                    "document_id": c.document_id,
                    "version": c.version,
                    "chunk_id": c.chunk_id,
                    "title": c.title,
                    "score": round(c.score, 4),
                }
                for c in completed.citations
            ],
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cost_micros": usage.cost_micros,
            "duration_seconds": round(completed.duration_seconds, 3),
            "first_token_seconds": round(completed.first_token_seconds, 3),
        }
    )
    context.output.line("")
    for c in completed.citations:
        place = f"[{c.marker}] {c.document_id} v{c.version} chunk {c.chunk_id}"
        context.output.line(f"  {place}  ({c.title}, score {c.score:.2f})")
    tokens = f"{usage.input_tokens} + {usage.output_tokens} tokens"
    seconds = f"{completed.duration_seconds:.2f} s"
    context.output.line(f"  answer {answer_id}  release {release_id}  {tokens}  {seconds}")


def feedback(
    answer_id: str = typer.Argument(..., help="Id that `tidemill ask` printed."),
    thumb: str = typer.Option("", "--thumb", help="up or down."),
    correction: str = typer.Option("", "--correction", help="What the answer should have been."),
    unanswerable: bool = typer.Option(
        False, "--unanswerable", help="The documents do not hold the answer."
    ),
    document: list[str] = typer.Option([], "--document", help="Document that holds the answer."),
    prefer: str = typer.Option("", "--prefer", help="Id of a better answer to the same question."),
    tenant: str = TENANT_OPTION,
    json_mode: bool = JSON_OPTION,
) -> None:
    """Judge an answer: a thumb, a correction, or a better answer."""
    context = open_context(tenant, json_mode)

    async def work() -> None:
        message = feedback_message(answer_id, thumb, correction, unanswerable, document, prefer)
        async with context.client() as client:
            traceparent = await trace_of_answer(client, answer_id)
            event_id = await client.submit_feedback(message, traceparent=traceparent)
            await wait_taken(client, event_id)
        context.output.document({"event_id": event_id, "answer_id": answer_id})
        context.output.line(f"Recorded; the event is {event_id}.")

    run(context, work())


async def wait_taken(client: Client, event_id: str) -> None:
    """Until inference has recorded the feedback; CommandFailed with its reason if it refused."""
    deadline = time.monotonic() + FEEDBACK_SECONDS
    while time.monotonic() < deadline:
        found = await client.feedback_submission(event_id)
        if found is not None and found.state in REFUSED:
            raise CommandFailed("FEEDBACK_REJECTED", found.reason)
        if found is not None and found.state == SUBMISSION_STATE_ACCEPTED:
            return
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    raise CommandFailed("FEEDBACK_TIMEOUT", f"inference has not yet taken the event {event_id}")


async def trace_of_answer(client: Client, answer_id: str) -> str:
    """The answer's trace. An unknown answer is told before anything is on the log."""
    stub = InferenceServiceStub(client.channels.to("inference"))
    request = GetAnswerRequest(answer_id=answer_id)
    response = await call(stub.GetAnswer, request, token=client.token, timeout=RPC_SECONDS)
    return str(response.traceparent)


def feedback_message(
    answer_id: str,
    thumb: str,
    correction: str,
    unanswerable: bool,
    documents: list[str],
    prefer: str,
) -> FeedbackSubmitted:
    given = [bool(thumb), bool(correction or unanswerable), bool(prefer)]
    if sum(given) != 1 or (correction and unanswerable):
        hint = "give exactly one of --thumb, --correction, --unanswerable, --prefer"
        raise CommandFailed("INVALID_ARGUMENT", hint, 2)
    if thumb:
        if thumb not in ("up", "down"):
            raise CommandFailed("INVALID_ARGUMENT", "--thumb is up or down", 2)
        return FeedbackSubmitted(answer_id=answer_id, thumb_up=thumb == "up")
    if prefer:
        return FeedbackSubmitted(answer_id=answer_id, preferred_answer_id=prefer)
    if unanswerable:
        return FeedbackSubmitted(answer_id=answer_id, unanswerable=True)
    return FeedbackSubmitted(answer_id=answer_id, correction=correction, document_ids=documents)
