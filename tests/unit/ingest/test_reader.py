"""Whatever a document does to its parser, the service goes on, and says why it was refused."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import psutil
import pytest

from services.ingest.adapters.preparation import Limits, Source
from services.ingest.adapters.reader import Allowance, Reader
from services.ingest.domain.documents import Rejected
from services.ingest.domain.submissions import PDF
from tests.unit.ingest import files
from tidemill.faults import Fault, Reason

LIMITS = Limits(max_pages=500, max_expanded_bytes=64 << 20, max_chunks=4_000, passage_words=80)
GENEROUS = Allowance(cpu_seconds=60, wall_seconds=90.0, memory_bytes=1 << 30)
MARKDOWN = Source("text/markdown", "Title", "https://docs.example")

Open = Callable[..., AbstractAsyncContextManager[Reader]]


@pytest.fixture
def open_reader() -> Open:
    """A reader that leaves no process behind."""

    @asynccontextmanager
    async def opened(allowance: Allowance = GENEROUS) -> AsyncIterator[Reader]:
        before = set(psutil.Process().children())
        async with Reader(LIMITS, allowance) as reader:
            yield reader
        assert set(psutil.Process().children()) <= before

    return opened


async def test_reads_one_document_after_another_in_the_same_process(open_reader: Open) -> None:
    async with open_reader() as reader:
        first = await reader.prepare(MARKDOWN, b"# One\n\nfirst text\n")
        process = reader._process
        with pytest.raises(Rejected):
            await reader.prepare(Source(PDF, "", ""), b"%PDF broken")
        second = await reader.prepare(Source(PDF, "", ""), files.pdf([[("second text", 11)]]))
        assert reader._process is process
    assert first.passages[0].text == "first text"
    assert second.passages[0].text == "second text"
    assert first.source_uri == "https://docs.example"


async def test_a_document_that_eats_processor_time_is_refused_and_the_next_is_read(
    open_reader: Open,
) -> None:
    # The reader looks for the line that each text is on, up through all that it is nested in.
    bomb = b"<b>x" * 100_000
    async with open_reader(Allowance(1, 90.0, 1 << 30)) as reader:
        with pytest.raises(Rejected) as rejected:
            await reader.prepare(Source("text/html", "", ""), bomb)
        assert rejected.value.reason == "DEADLINE_EXCEEDED"
        assert (await reader.prepare(MARKDOWN, b"text")).passages[0].text == "text"


async def test_a_document_that_eats_memory_is_refused_and_the_next_is_read(
    open_reader: Open,
) -> None:
    async with open_reader(Allowance(60, 90.0, 256 << 20)) as reader:
        with pytest.raises(Rejected) as rejected:
            await reader.prepare(Source("text/html", "", ""), b"<p>x" * 2_000_000)
        assert rejected.value.reason in ("DOCUMENT_TOO_LARGE", "DOCUMENT_BROKEN")
        assert (await reader.prepare(MARKDOWN, b"text")).passages[0].text == "text"


async def test_a_process_that_dies_takes_one_document_with_it(open_reader: Open) -> None:
    async with open_reader() as reader:
        await reader.prepare(MARKDOWN, b"text")
        assert reader._process is not None
        task = asyncio.create_task(reader.prepare(MARKDOWN, b"word " * 200_000))
        await asyncio.sleep(0)
        reader._process.kill()
        with pytest.raises(Rejected):
            await task
        assert (await reader.prepare(MARKDOWN, b"text")).passages[0].text == "text"


async def test_a_reading_that_takes_too_long_by_the_clock_is_tried_again_later(
    open_reader: Open,
) -> None:
    async with open_reader(Allowance(60, 0.01, 1 << 30)) as reader:
        with pytest.raises(Fault) as fault:
            await reader.prepare(MARKDOWN, b"word " * 200_000)
    assert fault.value.reason is Reason.DEADLINE_EXCEEDED
    assert fault.value.retryable
