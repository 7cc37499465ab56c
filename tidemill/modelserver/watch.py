"""Looks after the models of one running Triton: loads, proves and replaces them."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterable

import psutil
import structlog

from tidemill.modelserver.client import EMBEDDER, LLM, ModelServer
from tidemill.modelserver.errors import ModelServerUnavailable
from tidemill.modelserver.process import TritonProcess

MODELS = (EMBEDDER, LLM)
LIVE_TRIES = 150
LIVE_EVERY_S = 0.1
LOAD_TIMEOUT_S = 180.0
PROOF_TIMEOUT_S = 90.0
CANARY_TIMEOUT_S = 30.0
# Of no work at all: each costs a token of the model, and calls notice a model that hangs anyway.
CANARY_EVERY_S = 30.0
SECOND_LOOK_S = 3.0
# A model that works through a full queue leaves a canary waiting; one that hangs uses no CPU.
BUSY_CPU_S = 1.0

log = structlog.get_logger()


class Watch:
    """Serves until a model cannot be brought back; calls `ready` after every proof."""

    def __init__(
        self, triton: TritonProcess, client: ModelServer, ready: Callable[[], None]
    ) -> None:
        self._triton = triton
        self._client = client
        self._ready = ready
        self._replacing = asyncio.Lock()

    async def serve(self) -> None:
        """Loads and proves both models, then replaces any that dies or stops answering.

        Raises ModelServerUnavailable or ModelStalled when that fails.
        """
        await self._wait_live()
        brought = await asyncio.gather(*map(self._bring, MODELS), return_exceptions=True)
        for failure in filter(None, brought):
            raise failure
        log.info("models_ready", stubs=self._triton.stubs())
        self._ready()
        await first(self._watch_stubs(), *(self._watch_answers(model) for model in MODELS))

    async def _bring(self, model: str) -> None:
        await self._client.load(model, timeout=LOAD_TIMEOUT_S)
        await self._prove(model)

    async def _wait_live(self) -> None:
        """The gRPC port opens within a second or two of the start."""
        for _ in range(LIVE_TRIES):
            if await self._client.live(timeout=10.0):
                return
            await asyncio.sleep(LIVE_EVERY_S)
        raise ModelServerUnavailable("NOT_LIVE")

    async def _prove(self, model: str) -> None:
        if not await self._client.ready(model, timeout=PROOF_TIMEOUT_S):
            raise ModelServerUnavailable("PROOF_FAILED")

    async def _watch_stubs(self) -> None:
        """Triton says "ready" for a model whose process is dead: only the process tells, and the
        kernel tells at once when it ends."""
        while True:
            async with self._replacing:
                alive = self._triton.stubs()
                for model in MODELS:
                    if model not in alive:
                        await self._replace(model, "stub_died")
                alive = self._triton.stubs()
            if alive.keys() >= set(MODELS):
                await any_ends(alive.values())

    async def _watch_answers(self, model: str) -> None:
        """A process may live and not answer: only a real request tells."""
        while True:
            await asyncio.sleep(CANARY_EVERY_S)
            pid, before = self._stub(model)
            if await answers(self._client, model):
                continue
            async with self._replacing:
                same, after = self._stub(model)
                if same == pid and after - before < BUSY_CPU_S:
                    await self._replace(model, "canary_failed")

    def _stub(self, model: str) -> tuple[int, float]:
        """The model's process and the CPU seconds it has used; zeros if there is none."""
        pid = self._triton.stubs().get(model, 0)
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            return 0, 0.0
        return pid, float(times.user + times.system)

    async def _replace(self, model: str, reason: str) -> None:
        """Triton never restarts a dead stub; unloading and loading at once does."""
        log.error("model_lost", model=model, reason=reason)
        await self._client.unload(model)
        await self._client.load(model, timeout=LOAD_TIMEOUT_S)
        await self._prove(model)
        log.info("model_recovered", model=model)
        self._ready()


async def any_ends(pids: Iterable[int]) -> None:
    """Returns once one of the processes has ended, a moment ago or long before."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    with contextlib.ExitStack() as stack:
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                return
            stack.callback(os.close, descriptor)
            loop.add_reader(descriptor, ended.set)
            stack.callback(loop.remove_reader, descriptor)
        await ended.wait()


async def answers(client: ModelServer, model: str) -> bool:
    """Whether a request is answered. A full queue turns it away at once, which says nothing yet:
    after a while the queue has moved, or the process has shown by its CPU time that it works, or
    neither."""
    now = asyncio.get_running_loop().time
    started = now()
    if await client.ready(model, timeout=CANARY_TIMEOUT_S):
        return True
    left = started + SECOND_LOOK_S - now()
    if left <= 0:
        return False
    await asyncio.sleep(left)
    return await client.ready(model, timeout=CANARY_TIMEOUT_S)


async def first(*waits: Awaitable[object]) -> None:
    """Waits for the first to end and cancels the others; its error, if any, is raised."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
