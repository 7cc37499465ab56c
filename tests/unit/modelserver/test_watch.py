"""How the end of a model's process is noticed: the kernel tells it, nothing asks for it."""

import asyncio
import sys

from tidemill.modelserver.watch import any_ends

SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")


async def test_the_end_of_one_process_is_noticed_at_once() -> None:
    living, dying = [await asyncio.create_subprocess_exec(*SLEEPER) for _ in range(2)]
    waiting = asyncio.create_task(any_ends([living.pid, dying.pid]))
    try:
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        dying.kill()
        await asyncio.wait_for(waiting, 10)
    finally:
        waiting.cancel()
        living.kill()
        await asyncio.gather(living.wait(), dying.wait())


async def test_a_process_that_is_gone_already_ends_the_wait() -> None:
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await gone.wait()
    await asyncio.wait_for(any_ends([gone.pid]), 10)
