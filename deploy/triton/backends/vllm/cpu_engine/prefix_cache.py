"""Keys and values of prompt beginnings already computed, shared by later prompts."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence

from torch import Tensor

BLOCK = 16


class PrefixCache:
    """Blocks of BLOCK tokens by everything before them; the least recently used go first. May be
    used by several threads at a time."""

    def __init__(self, blocks: int) -> None:
        self._capacity = blocks
        self._blocks: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, owner: Hashable, tokens: Sequence[int], memory: Tensor) -> int:
        """Copies the longest known beginning into memory; answers how many tokens that is.

        `memory` is (layers, 2, groups, capacity, head). Never all of the tokens: the last one
        must be computed, for its logits.
        """
        blocks = self._find(_keys(owner, tokens[:-1]))
        for number, block in enumerate(blocks):
            memory[:, :, :, number * BLOCK : (number + 1) * BLOCK] = block
        return len(blocks) * BLOCK

    def write(self, owner: Hashable, tokens: Sequence[int], memory: Tensor) -> None:
        """Keeps every whole block of a computed prompt."""
        keys = _keys(owner, tokens)
        known = len(self._find(keys))
        new = {
            key: memory[:, :, :, number * BLOCK : (number + 1) * BLOCK].clone()
            for number, key in enumerate(keys[known:], known)
        }
        with self._lock:
            for key, block in new.items():
                self._blocks[key] = block
                self._blocks.move_to_end(key)
            while len(self._blocks) > self._capacity:
                self._blocks.popitem(last=False)

    def _find(self, keys: Sequence[Hashable]) -> list[Tensor]:
        """The blocks of the longest known beginning, which count as used now."""
        found = []
        with self._lock:
            for key in keys:
                block = self._blocks.get(key)
                if block is None:
                    break
                self._blocks.move_to_end(key)
                found.append(block)
        return found


def _keys(owner: Hashable, tokens: Sequence[int]) -> list[Hashable]:
    """One key per whole block: the block's owner and all tokens up to its end."""
    whole = len(tokens) // BLOCK
    return [(owner, tuple(tokens[: BLOCK * (number + 1)])) for number in range(whole)]
