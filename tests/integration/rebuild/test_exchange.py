"""The command against services in processes: one is exchanged while others answer; a kill in the
middle leaves a whole store."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

import pytest

from tests.integration.rebuild.conftest import Mesh
from tests.integration.rebuild.test_index import fill, index_of
from tests.integration.rebuilding import rebuild, store_of
from tests.waiting import eventually
from tidemill.faults import Fault


def environment(mesh: Mesh) -> dict[str, str]:
    return os.environ | {
        "TIDEMILL_HOME": str(mesh.settings.home),
        "TIDEMILL_KAFKA": mesh.settings.kafka,
        "TIDEMILL_PORT_BASE": str(mesh.settings.port_base),
    }


async def run(mesh: Mesh, *arguments: str, **pipes: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment(mesh), **pipes
    )


async def tidemill(mesh: Mesh, *arguments: str) -> tuple[int, Any]:
    """Exit code and the JSON document."""
    code = "from tidemill.cli.main import run; run()"
    pipe = asyncio.subprocess.PIPE
    child = await run(mesh, "-c", code, "rebuild", *arguments, "--json", stdout=pipe)
    said, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, json.loads(said)


async def test_a_kill_in_the_middle_leaves_the_store_and_the_next_run_completes(
    mesh: Mesh,
) -> None:
    async with mesh.service("retriever"):
        await fill(mesh)
        before = await index_of(mesh)
    if mesh.settings.db:
        pytest.skip("looks at the file; test_server.py has what a server does")
    store = store_of(mesh.settings, "retriever")
    number = store.stat().st_ino
    child = await run(
        mesh, "-m", "services.rebuild", "retriever",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    async for line in child.stdout:
        if json.loads(line)["event"] == "built":
            break
    assert (store.parent / "rebuild" / "rows.db").exists()
    child.send_signal(signal.SIGKILL)
    await child.wait()
    assert store.stat().st_ino == number
    async with mesh.service("retriever"):
        assert await index_of(mesh) == before
        # A service that nobody stops keeps its store.
        code, said = await tidemill(mesh, "retriever", "--check")
        assert (code, said["rebuilt"][0]["same"]) == (0, True)

    code, said = await tidemill(mesh, "retriever")

    assert (code, said["rebuilt"][0]["same"]) == (0, True)
    assert not (store.parent / "rebuild").exists()
    assert store.stat().st_ino != number
    assert store.with_name("rows.db.before-rebuild").stat().st_ino == number
    async with mesh.service("retriever"):
        assert await index_of(mesh) == before


async def test_a_service_answers_while_its_store_is_built_and_another_s_all_the_time(
    mesh: Mesh,
) -> None:
    answered: list[str] = []

    async def stop() -> None:
        assert await index_of(mesh) == before
        answered.append("own")
        retriever.terminate()
        await retriever.wait()

    retriever = await run(mesh, "-m", "services", "retriever")
    try:
        await eventually(lambda: answers(mesh))
        await fill(mesh)
        before = await index_of(mesh)
        rebuilt = await rebuild(mesh.settings, "retriever", stop)
        retriever = await run(mesh, "-m", "services", "retriever")
        await eventually(lambda: answers(mesh))
        assert await index_of(mesh) == before
        mesh_of_others = asyncio.create_task(rebuild(mesh.settings, "monitor"))
        while not mesh_of_others.done():
            assert await index_of(mesh) == before
            answered.append("other")
        await mesh_of_others
    finally:
        with suppress(ProcessLookupError):
            retriever.kill()
        await retriever.wait()
    assert rebuilt.same
    assert {"own", "other"} <= set(answered)


async def answers(mesh: Mesh) -> bool:
    try:
        await index_of(mesh)
    except Fault:
        return False
    return True


async def test_the_command_says_what_to_change(mesh: Mesh) -> None:
    code, said = await tidemill(mesh, "nobody")
    assert (code, said["error"]["reason"]) == (2, "INVALID_ARGUMENT")
    code, said = await tidemill(mesh)
    assert (code, said["error"]["reason"]) == (2, "INVALID_ARGUMENT")
