"""An index with one entry per few kilobytes of log: offset, position, highest time before it."""

from array import array
from bisect import bisect_left, bisect_right

ENTRY_EVERY_BYTES = 4096
NO_TIMESTAMP = -1


class SparseIndex:
    """Finds where in a file to start reading; entries are batch boundaries, in log order."""

    def __init__(self) -> None:
        self.offsets = array("q")
        self.positions = array("q")
        self.times_before = array("q")

    def note(self, offset: int, position: int, time_before: int) -> None:
        """Called for each appended batch; keeps one of several that lie close together."""
        if self.positions and position - self.positions[-1] < ENTRY_EVERY_BYTES:
            return
        self.offsets.append(offset)
        self.positions.append(position)
        self.times_before.append(time_before)

    def position_before_offset(self, offset: int) -> int:
        """Position of a batch boundary at or before the batch that holds `offset`."""
        entry = bisect_right(self.offsets, offset) - 1
        return self.positions[entry] if entry >= 0 else 0

    def position_before_time(self, timestamp: int) -> int:
        """Position of a boundary before which every record is older than `timestamp`."""
        entry = bisect_left(self.times_before, timestamp) - 1
        return self.positions[entry] if entry >= 0 else 0

    def offset_at_or_above(self, position: int, end: int) -> int:
        """Offset of the first known batch not below `position`; `end` if there is none."""
        entry = bisect_left(self.positions, position)
        return self.offsets[entry] if entry < len(self.offsets) else end

    def boundary_at_or_below(self, position: int) -> int:
        """The highest known batch boundary that is not above `position`."""
        entry = bisect_right(self.positions, position) - 1
        return self.positions[entry] if entry >= 0 else 0
