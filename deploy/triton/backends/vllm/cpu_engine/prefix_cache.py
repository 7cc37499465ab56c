"""Keys and values of prompt beginnings already computed, shared by later prompts."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from torch import Tensor

BLOCK = 16


class PrefixCache:
    """Blocks of BLOCK tokens by everything before them; the least recently used go first."""

    def __init__(self, blocks: int) -> None:
        self._capacity = blocks
        self._blocks: OrderedDict[Hashable, Tensor] = OrderedDict()

    def read(self, owner: Hashable, tokens: Sequence[int], memory: Tensor) -> int:
        """Copies the longest known beginning into memory; answers how many tokens that is.

        `memory` is (layers, 2, groups, capacity, head). Never all of the tokens: the last one
        must be computed, for its logits.
        """
        known = 0
        for key in _keys(owner, tokens[:-1]):
            block = self._blocks.get(key)
            if block is None:
                break
            self._blocks.move_to_end(key)
            memory[:, :, :, known : known + BLOCK] = block
            known += BLOCK
        return known

    def write(self, owner: Hashable, tokens: Sequence[int], memory: Tensor) -> None:
        """Keeps every whole block of a computed prompt."""
        for number, key in enumerate(_keys(owner, tokens)):
            if key in self._blocks:
                self._blocks.move_to_end(key)
            else:
                start = number * BLOCK
                self._blocks[key] = memory[:, :, :, start : start + BLOCK].clone()
        while len(self._blocks) > self._capacity:
            self._blocks.popitem(last=False)


def _keys(owner: Hashable, tokens: Sequence[int]) -> list[Hashable]:
    """One key per whole block: the block's owner and all tokens up to its end."""
    whole = len(tokens) // BLOCK
    return [(owner, tuple(tokens[: BLOCK * (number + 1)])) for number in range(whole)]
