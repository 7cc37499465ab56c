"""LoRA adapters from the artifact store to the model server, verified and tried before use."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from services.inference.domain.releases import Adapter
from tidemill.artifacts import ArtifactStore
from tidemill.clock import Clock
from tidemill.faults import Fault, Reason
from tidemill.wake import Wake

log = structlog.get_logger()

OUTAGE_RETRY_SECONDS = 1.0
"""Pause after the model server or the store could not be reached: it may be starting."""
RETRY_SECONDS = 15.0
"""Pause after the adapter itself was refused."""
LOAD_SECONDS = 60.0
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Load = Callable[[str, Path], Awaitable[None]]
"""Makes the model server know an adapter by name and answer with it once."""


class AdapterShelf:
    """Knows which adapters the model server holds. A name never changes its content."""

    def __init__(self, store: ArtifactStore, folder: Path, load: Load, clock: Clock) -> None:
        self._store = store
        self._folder = folder
        self._load = load
        self._clock = clock
        self._loaded: dict[str, str] = {}
        self._retry_at: dict[str, float] = {}
        self._refused: set[str] = set()
        self.news = Wake()
        """Set when an adapter was lost that was loaded before."""
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def may_try(self, adapter: Adapter) -> bool:
        """False while it is loaded, and for a while after it could not be."""
        if self.holds(adapter):
            return False
        return self._clock.monotonic() >= self._retry_at.get(adapter.name, 0.0)

    def is_settled(self, adapter: Adapter) -> bool:
        """It is loaded, or was refused for what it is: waiting would not change that."""
        return self.holds(adapter) or adapter.name in self._refused

    async def ensure(self, adapter: Adapter) -> None:
        """Returns once the model server answers with the adapter; Fault(ADAPTER_UNAVAILABLE)."""
        if self.holds(adapter):
            return
        async with self._locks[adapter.name]:
            if self.holds(adapter):
                return
            if not self.may_try(adapter):
                raise _unavailable(adapter)
            await self._bring(adapter)

    def forget(self, name: str) -> None:
        """The model server says that it does not hold the adapter after all."""
        self._loaded.pop(name, None)
        self.news.set()

    def holds(self, adapter: Adapter) -> bool:
        return self._loaded.get(adapter.name) == adapter.hash

    async def _bring(self, adapter: Adapter) -> None:
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await self._fetch_and_load(adapter)
        except (Fault, TimeoutError) as error:
            fault = error if isinstance(error, Fault) else Fault(Reason.DEADLINE_EXCEEDED)
            self._pause(adapter, fault)
            log.warning("adapter_load_failed", adapter=adapter.name, cause=fault.reason.value)
            raise _unavailable(adapter) from error
        self._retry_at.pop(adapter.name, None)
        self._refused.discard(adapter.name)
        self._loaded[adapter.name] = adapter.hash
        log.info("adapter_loaded", adapter=adapter.name)

    def _pause(self, adapter: Adapter, fault: Fault) -> None:
        # A model server that answers and does not know the adapter has refused it.
        outage = fault.retryable and fault.reason is not Reason.ADAPTER_UNAVAILABLE
        seconds = OUTAGE_RETRY_SECONDS if outage else RETRY_SECONDS
        self._retry_at[adapter.name] = self._clock.monotonic() + seconds
        if not outage:
            self._refused.add(adapter.name)

    async def _fetch_and_load(self, adapter: Adapter) -> None:
        if not SAFE_NAME.fullmatch(adapter.name):
            raise Fault(Reason.INVALID_ARGUMENT, field="adapter")
        if adapter.name in self._loaded:  # another content under a name that is taken
            raise Fault(Reason.FAILED_PRECONDITION, problem="NAME_TAKEN")
        target = self._folder / adapter.name
        folder = await self._store.fetch_folder(adapter.uri, adapter.hash, target)
        await self._load(adapter.name, folder)


def _unavailable(adapter: Adapter) -> Fault:
    return Fault(Reason.ADAPTER_UNAVAILABLE, adapter=adapter.name)
