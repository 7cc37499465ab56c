"""Leaves a broker that may be silent: a client's own stop waits for it without a bound."""

import asyncio
from contextlib import suppress
from typing import Protocol

GOODBYE_SECONDS = 1.0


class Stoppable(Protocol):
    """A producer or a consumer."""

    async def stop(self) -> None:
        """Flushes, leaves its group, closes."""
        ...


async def say_goodbye(client: Stoppable, seconds: float = GOODBYE_SECONDS) -> bool:
    """Stop the client; False when it was left as it is because that took too long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await client.stop()
            return True
    return False
