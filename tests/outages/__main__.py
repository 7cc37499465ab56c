"""Frozen processes by number or time: python -m tests.outages --seconds 60 --json FILE."""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.outages.child import POINTS
from tests.outages.zombies import zombie_rounds

ROUND_SECONDS = 8.0
"""What a round takes; each of the points is tried once at least."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.outages", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="about so long")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    rounds = max(len(POINTS), round(options.seconds / ROUND_SECONDS))
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(zombie_rounds(Path(folder), rounds))
    text = json.dumps(figures, indent=2) + "\n"
    if options.json:
        options.json.write_text(text)
    sys.stdout.write(text)
    return 1 if figures["zombie_writes"] else 0


if __name__ == "__main__":
    sys.exit(main())
