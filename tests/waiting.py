"""Waits for something to become true, and no longer than it may take."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

WAIT_SECONDS = 60.0


async def eventually(condition: Callable[[], Awaitable[Any]], seconds: float = WAIT_SECONDS) -> Any:
    """The condition's first true value. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            if value := await condition():
                return value
            await asyncio.sleep(0.05)
