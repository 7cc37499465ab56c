"""Rounds of bad events, a fix and replays: python -m tests.poison --seconds 60 --json FILE."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from structlog.testing import capture_logs

from tests.conftest import serving, token
from tests.integration.core.conftest import Outside, open_broker, producing
from tests.poison.rounds import poison_round
from tests.ports import free_port_base
from tidemill.settings import MeshSettings


def main() -> int:
    """0: what was parked is healed or dropped, each once. 1: something is left or came twice."""
    parser = argparse.ArgumentParser(prog="python -m tests.poison", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="rounds are begun for so long")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, capture_logs():
        dlq = asyncio.run(rounds(Path(folder), options.seconds))
    text = json.dumps({"dlq": dlq}, indent=2) + "\n"
    if options.json:
        options.json.write_text(text)
    sys.stdout.write(text)
    return 0 if dlq["dead_lettered"] == dlq["healed"] + dlq["dropped"] else 1


async def rounds(folder: Path, seconds: float) -> Counter[str]:
    """One at least, each on a mesh of its own."""
    end, dlq = time.monotonic() + seconds, Counter[str]()
    while True:
        async with mesh(folder / f"round-{dlq['rounds']}") as outside:
            dlq.update(await poison_round(outside, serving))
        dlq["rounds"] += 1
        if time.monotonic() > end:
            return dlq


@asynccontextmanager
async def mesh(folder: Path) -> AsyncIterator[Outside]:
    """A broker and someone outside; poison_round runs the service."""
    home = folder / "home"
    home.mkdir(parents=True)
    async with open_broker(folder / "broker") as broker:
        settings = MeshSettings(home=home, port_base=free_port_base(), kafka=broker.bootstrap)
        async with producing(broker.bootstrap) as producer:
            yield Outside(broker.bootstrap, settings, token, producer)


if __name__ == "__main__":
    sys.exit(main())
