"""The processes that train one run together, over torch.distributed by way of Accelerate.

Each takes a part of a step's shards, all get the results of all, in the order of the shards: so
every process takes the same step, and how many there are does not change the adapter.
"""

import math
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather
from torch import Tensor

T = TypeVar("T")
SILENCE = timedelta(minutes=10)
"""A process that waits longer for the others gives up: one of them is gone."""


class Peers:
    """This process among them; alone unless torchrun has started it."""

    def __init__(self) -> None:
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=SILENCE)
        self.rank: int = state.process_index
        self.count: int = state.num_processes
        on_gpu = state.device.type != "cpu"
        self.device: torch.device = state.device if on_gpu else torch.device("cpu")
        self._neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def threads(self, wanted: int) -> int:
        """Of this process. wanted: of all on this machine together; 0 for what the machine has,
        of which whoever starts several gives each its part."""
        return max(1, wanted // self._neighbours) if wanted else torch.get_num_threads()

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """What this process does."""
        return items[self.rank :: self.count]

    def most(self, items: int) -> int:
        """How many of so many one process does at most."""
        return math.ceil(items / self.count)

    def together(self, mine: Sequence[Tensor], items: int, width: int) -> Tensor:
        """Everybody's rows (items, width), in the order of the items. mine: those of this process's
        share, (width,) each."""
        if self.count == 1:
            return torch.stack(list(mine))
        # All send equally many: who has one item less adds a row that nobody reads.
        block = torch.zeros(self.most(items), width, device=self.device)
        for place, row in enumerate(mine):
            block[place] = row
        found: Tensor = gather(block)
        return found.view(self.count, -1, width).transpose(0, 1).reshape(-1, width)[:items]
