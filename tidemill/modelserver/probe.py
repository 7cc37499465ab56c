"""Exit 0 when both models of a Triton answer a real request: python -m tidemill.modelserver.probe
ADDRESS."""

import argparse
import asyncio
import sys

from tidemill.modelserver.client import EMBEDDER, LLM, ModelServer

SECONDS = 25.0


async def answers(address: str) -> bool:
    """One vector and one token; a full queue counts as no answer."""
    async with ModelServer(address) as server:
        ready = await asyncio.gather(
            *(server.ready(model, timeout=SECONDS) for model in (EMBEDDER, LLM))
        )
    return all(ready)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tidemill.modelserver.probe")
    parser.add_argument("address", help="host:port of Triton's gRPC")
    return 0 if asyncio.run(answers(parser.parse_args().address)) else 1


if __name__ == "__main__":
    sys.exit(main())
