"""What happens when parts of the model server die, and who may control it."""

import asyncio
import subprocess
from pathlib import Path

import pytest
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from tests.conformance.modelserver.reference import PROMPTS, Reference
from tests.conformance.modelserver.served import RECOVERY_S, Served, command
from tests.conformance.modelserver.test_generation import LONG, complete, text
from tidemill.modelserver.client import ModelServer, Sampling
from tidemill.modelserver.errors import InvalidRequest, ModelServerError, ModelStalled
from tidemill.modelserver.layout import admin_token
from tidemill.modelserver.watch import answers

pytestmark = [pytest.mark.triton, pytest.mark.asyncio]


async def test_a_model_that_turns_requests_away_is_asked_again_before_it_counts_as_lost(
    client: ModelServer,
) -> None:
    asked = [asyncio.create_task(complete(client, LONG, max_tokens=1000)) for _ in range(90)]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)  # the first to be turned away
    assert not await client.ready("llm", timeout=30.0)
    answered = asyncio.create_task(answers(client, "llm"))
    await asyncio.sleep(0.5)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert await answered


async def test_a_dead_model_ends_its_streams_and_is_replaced(served: Served) -> None:
    async with ModelServer(served.address, idle_timeout=2.0) as client:
        stream = client.generate(
            LONG,
            Sampling(max_tokens=1000),
            adapter=None,
            request_id="",
            timeout=60.0,
            first_token_timeout=60.0,
            headers={},
        )
        with pytest.raises(ModelStalled):  # noqa: PT012 - the death comes within the stream
            await anext(stream)
            served.stub("llm").kill()
            async for _ in stream:
                pass
        await asyncio.to_thread(served.wait_ready, RECOVERY_S)
        assert text(await complete(client, LONG))


async def test_a_killed_server_comes_back_with_its_adapters(
    served: Served, client: ModelServer, reference: Reference
) -> None:
    await client.add_adapter("tuned-v1", reference.adapter)
    before = text(await complete(client, PROMPTS[2], "tuned-v1"))
    served.triton().kill()
    await asyncio.to_thread(served.wait_ready, RECOVERY_S)
    async with ModelServer(served.address) as again:
        assert text(await complete(again, PROMPTS[2], "tuned-v1")) == before
        assert (await again.embed(["text"], timeout=30.0)).shape == (1, 384)


async def test_loading_and_unloading_need_the_admin_token(
    served: Served, client: ModelServer
) -> None:
    with pytest.raises(InvalidRequest, match="ADMIN_TOKEN_REQUIRED"):
        await client.unload("embedder")
    token = admin_token(served.home)
    assert (served.home / "modelserver" / "admin-token").stat().st_mode & 0o777 == 0o600
    async with ModelServer(served.address, admin_token=token) as admin:
        await admin.load("embedder")
        with pytest.raises(ModelServerError):
            await admin.load("no-such-model")


async def test_nobody_else_touches_memory_traces_or_logs_of_the_server(served: Served) -> None:
    """Beyond loopback these would let a neighbour read other callers' tensors, or write files."""
    async with triton.InferenceServerClient(served.address) as stranger:
        calls = (
            stranger.get_system_shared_memory_status,
            stranger.get_trace_settings,
            stranger.get_log_settings,
            stranger.get_model_repository_index,
        )
        for ask in calls:
            with pytest.raises(InferenceServerException, match=r"restricted|token"):
                await ask()
        assert await stranger.is_server_live()


async def test_a_taken_port_is_named_and_ends_the_start(served: Served, tmp_path: Path) -> None:
    for part in ("models", "tools"):
        (tmp_path / part).symlink_to((served.home / part).resolve())
    done = await asyncio.to_thread(_start, tmp_path, served.grpc_port)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"PORT_IN_USE: port {served.grpc_port} of 127.0.0.1 is taken"
    ]


async def test_a_second_server_on_the_same_home_is_refused(served: Served) -> None:
    done = await asyncio.to_thread(_start, served.home, 0)
    assert done.returncode == 2
    assert done.stderr.startswith("ALREADY_RUNNING: ")


async def test_a_home_without_an_installation_is_refused(tmp_path: Path) -> None:
    done = await asyncio.to_thread(_start, tmp_path, 0)
    assert done.returncode == 2
    assert done.stderr.startswith("NOT_INSTALLED: ")


async def test_a_killed_supervisor_leaves_no_server_behind_once_it_is_started_again(
    served: Served,
) -> None:
    orphan = served.triton()
    await asyncio.to_thread(served.kill)
    assert orphan.is_running()
    await asyncio.to_thread(served.start)
    assert not orphan.is_running()
    async with ModelServer(served.address) as again:
        assert (await again.embed(["text"], timeout=30.0)).shape == (1, 384)


async def test_sigterm_ends_everything_in_time(served: Served) -> None:
    triton = served.triton()
    assert await asyncio.to_thread(served.stop) == 0
    assert not triton.is_running()
    assert not served.shared_memory()


def _start(home: Path, grpc_port: int) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(home, grpc_port, 0), capture_output=True, text=True, timeout=60, check=False
    )
