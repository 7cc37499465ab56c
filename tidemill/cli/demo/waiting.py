"""Waiting for what the mesh does by itself, with progress shown and a bound."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from tidemill.api.evaluator.v1 import EvaluatorServiceStub, ListReleasesRequest, ReleaseRecord
from tidemill.api.events.v1 import (
    RELEASE_STATE_CANARY,
    RELEASE_STATE_PROMOTED,
    RELEASE_STATE_REJECTED,
    RELEASE_STATE_ROLLED_BACK,
    ReleaseState,
)
from tidemill.api.ingest.v1 import (
    DOCUMENT_STATE_INDEXED,
    Document,
    IngestServiceStub,
    ListDocumentsRequest,
)
from tidemill.api.trainer.v1 import (
    RUN_STATE_FAILED,
    RUN_STATE_SUCCEEDED,
    ListRunsRequest,
    Run,
    TrainerServiceStub,
)
from tidemill.cli.output import CommandFailed, Output
from tidemill.client import Client
from tidemill.rpc import call

RPC_SECONDS = 10.0
POLL_SECONDS = 0.5

INDEX_SECONDS = 240.0
TRAIN_SECONDS = 900.0
GATE_SECONDS = 900.0

DECIDED = (
    RELEASE_STATE_REJECTED,
    RELEASE_STATE_CANARY,
    RELEASE_STATE_PROMOTED,
    RELEASE_STATE_ROLLED_BACK,
)


async def poll(
    what: str, seconds: float, look: Callable[[], Awaitable[str | None]], output: Output
) -> None:
    """Call look until it returns None; show what it returns whenever it changes."""
    deadline, shown = time.monotonic() + seconds, ""
    while True:
        progress = await look()
        if progress is None:
            return
        if progress != shown:
            output.note(f"  {progress}")
            shown = progress
        if time.monotonic() > deadline:
            raise CommandFailed("DEMO_TIMEOUT", f"{what} did not finish; see `tidemill status`")
        await asyncio.sleep(POLL_SECONDS)


async def list_documents(client: Client) -> list[Document]:
    stub = IngestServiceStub(client.channels.to("ingest"))
    request = ListDocumentsRequest(page_size=1000)
    response = await call(stub.ListDocuments, request, token=client.token, timeout=RPC_SECONDS)
    return list(response.documents)


async def wait_indexed(client: Client, count: int, output: Output) -> list[Document]:
    found: list[Document] = []

    async def look() -> str | None:
        nonlocal found
        found = await list_documents(client)
        rejected = [d for d in found if d.rejection_reason]
        if rejected:
            names = ", ".join(f"{d.document_id}: {d.rejection_reason}" for d in rejected)
            raise CommandFailed("DOCUMENTS_REJECTED", names)
        indexed = sum(d.state == DOCUMENT_STATE_INDEXED for d in found)
        if indexed == count:
            return None
        return f"{indexed // 10 * 10} of {count} documents searchable"

    await poll("indexing", INDEX_SECONDS, look, output)
    return found


async def list_runs(client: Client) -> list[Run]:
    stub = TrainerServiceStub(client.channels.to("trainer"))
    response = await call(
        stub.ListRuns, ListRunsRequest(page_size=100), token=client.token, timeout=RPC_SECONDS
    )
    return list(response.runs)


async def wait_trained(client: Client, known: set[str], output: Output) -> Run:
    """The first run that is not in known, once it is done."""
    finished: list[Run] = []

    async def look() -> str | None:
        new = [run for run in await list_runs(client) if run.run_id not in known]
        if not new:
            return "the trainer collects feedback"
        run = new[-1]
        if run.state == RUN_STATE_FAILED:
            raise CommandFailed("TRAINING_FAILED", run.reason)
        if run.state == RUN_STATE_SUCCEEDED:
            finished.append(run)
            return None
        examples = f"{run.supervised_examples} examples, {run.preference_pairs} pairs"
        done = run.steps_done // 4 * 4
        return f"training {run.adapter} on {examples}: step {done} of {run.steps_planned}"

    await poll("training", TRAIN_SECONDS, look, output)
    return finished[0]


async def list_releases(client: Client) -> list[ReleaseRecord]:
    stub = EvaluatorServiceStub(client.channels.to("evaluator"))
    request = ListReleasesRequest(page_size=100)
    response = await call(stub.ListReleases, request, token=client.token, timeout=RPC_SECONDS)
    return list(response.releases)


async def release_of(client: Client, adapter: str) -> ReleaseRecord | None:
    releases = await list_releases(client)
    return next((r for r in releases if r.release.adapter == adapter), None)


async def wait_decided(client: Client, adapter: str, output: Output) -> ReleaseRecord:
    """The adapter's release once its gate has decided."""
    decided: list[ReleaseRecord] = []

    async def look() -> str | None:
        record = await release_of(client, adapter)
        if record is None:
            return "the evaluator proposes a release"
        if record.state in DECIDED:
            decided.append(record)
            return None
        return f"release {record.release.release_id}: gate runs the held-out suite"

    await poll("the gate", GATE_SECONDS, look, output)
    return decided[0]


def state_name(record: ReleaseRecord) -> str:
    return ReleaseState.Name(record.state).removeprefix("RELEASE_STATE_")
