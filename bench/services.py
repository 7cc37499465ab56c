"""What one unit of work costs each process of a running mesh, in processor time and bytes.

    tidemill up && python -m bench.services [--documents 60] [--questions 40]

Documents of one chunk, questions on the handbook and feedback go through the mesh as a tenant of
its own. Each process's processor time before and after, less what it uses at rest, is divided by
the number, and so is what the broker's log grew by. Prints JSON. Processor time does not depend on
what else the machine does as seconds do; caches and interrupts still change it by a third. Beside
the services stand the parts that they wait for, Triton and the broker: what an operation costs less
than those is not worth saving.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

from tidemill.api.events.v1 import FeedbackSubmitted
from tidemill.cli.context import Context, open_context
from tidemill.cli.control import read_status
from tidemill.cli.demo.asking import ask_all
from tidemill.cli.demo.handbook import load_handbook, read_questions
from tidemill.cli.demo.memory import resident_memory
from tidemill.cli.demo.waiting import wait_indexed
from tidemill.client import Client

TENANT = "bench-services"
HANDBOOK = Path(__file__).parent.parent / "examples" / "handbook"
SETTLE_SECONDS = 5.0
REST_SECONDS = 20.0
WORDS = "berth crane dock ferry gauge harbour jetty keel lantern mast net oar pilot quay rope"


def spent(context: Context) -> dict[str, float]:
    """Processor seconds of each process of the mesh, its children included."""
    found = {}
    for state in read_status(context.settings)[1]:
        root = psutil.Process(state.pid)
        family = [root, *root.children(recursive=True)]
        times = [process.cpu_times() for process in family]
        found[state.name] = sum(each.user + each.system for each in times)
    return found


async def measured(
    context: Context, rest: dict[str, float], count: int, work: Callable[[], Awaitable[Any]]
) -> dict[str, Any]:
    """Milliseconds of processor time a unit by process, and units a second of wall time."""
    before, log, started = spent(context), log_bytes(context), time.monotonic()
    await work()
    seconds = time.monotonic() - started
    await asyncio.sleep(SETTLE_SECONDS)
    after, grown = spent(context), log_bytes(context) - log
    waited = {name: share * (seconds + SETTLE_SECONDS) for name, share in rest.items()}
    each = {name: after[name] - before[name] - waited[name] for name in before}
    return {
        "count": count,
        "per_second": round(count / seconds, 2),
        "cpu_ms": {name: round(1000 * max(0.0, used) / count, 1) for name, used in each.items()},
        "log_kib": round(grown / count / 1024, 2),
    }


async def at_rest(context: Context) -> dict[str, float]:
    """Share of a core that each process uses without work."""
    before = spent(context)
    await asyncio.sleep(REST_SECONDS)
    after = spent(context)
    return {name: (after[name] - before[name]) / REST_SECONDS for name in before}


def log_bytes(context: Context) -> int:
    """Of the embedded broker; nothing when another one keeps the log."""
    topics = context.settings.home / "broker" / "topics"
    return sum(file.stat().st_size for file in topics.rglob("*.log"))


def text_of(number: int) -> str:
    """One chunk of 150 words, unlike the others."""
    known = WORDS.split()
    words = [known[(number * 7 + place * (number % 5 + 1)) % len(known)] for place in range(150)]
    return f"# Note {number}\n\nBerth {number} is kept by crew {number * 3}. {' '.join(words)}.\n"


async def submit(client: Client, context: Context, documents: int) -> None:
    for number in range(documents):
        await client.submit_document(f"note/{number}", "text/markdown", text_of(number).encode())
    await wait_indexed(client, documents, context.output)


async def submit_handbook(client: Client, context: Context, there: int) -> None:
    """What the questions are about; it is not measured."""
    documents = load_handbook(HANDBOOK, seed=1, pool=1, held_out=1).documents
    for each in documents:
        content = await asyncio.to_thread(each.path.read_bytes)
        await client.submit_document(each.document_id, each.media_type, content)
    await wait_indexed(client, there + len(documents), context.output)


async def judge(client: Client, answers: list[str]) -> None:
    for answer in answers:
        await client.submit_feedback(FeedbackSubmitted(answer_id=answer, thumb_up=False))


async def measure(context: Context, documents: int, questions: int) -> dict[str, Any]:
    asked = read_questions(HANDBOOK / "feedback_pool.jsonl")[:questions]
    answers: list[str] = []
    async with context.client() as client:

        async def ask() -> None:
            found = await ask_all(client, asked, lambda done, all: None, user_prefix="bench")
            answers.extend(each.answer.answer_id for each in found)

        rest = await at_rest(context)

        def measuring(count: int, work: Callable[[], Awaitable[Any]]) -> Awaitable[dict[str, Any]]:
            return measured(context, rest, count, work)

        document = await measuring(documents, lambda: submit(client, context, documents))
        await submit_handbook(client, context, documents)
        question = await measuring(len(asked), ask)
        feedback = await measuring(len(asked), lambda: judge(client, answers))
    return {
        "rest_cpu_share": {name: round(share, 4) for name, share in rest.items()},
        "document": document,
        "question": question,
        "feedback": feedback,
        "memory_mib": resident_memory(context.settings),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--questions", type=int, default=40)
    options = parser.parse_args()
    context = open_context(TENANT, json_mode=False)
    if not read_status(context.settings)[0]:
        sys.stderr.write("MESH_DOWN: start it first: tidemill up\n")
        return 2
    found = asyncio.run(measure(context, options.documents, options.questions))
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
