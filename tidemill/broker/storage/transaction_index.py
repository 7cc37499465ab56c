"""Which transactions are open in a partition, and which were aborted in a segment."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class AbortedTransaction(NamedTuple):
    """Records of a producer from `first_offset` to its marker that readers are to skip.

    `stable_offset` is where the log was settled up to once it had ended.
    """

    producer_id: int
    first_offset: int
    last_offset: int
    stable_offset: int


class OpenTransactions:
    """The first offset of each producer's unfinished transaction, oldest first."""

    def __init__(self, rows: Iterable[tuple[int, int]] = ()) -> None:
        self._first_offsets = dict(sorted(rows, key=lambda row: row[1]))

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._first_offsets))

    def __contains__(self, producer_id: int) -> bool:
        return producer_id in self._first_offsets

    @property
    def first_offset(self) -> int | None:
        """Where the oldest one begins; None if there is none."""
        return next(iter(self._first_offsets.values()), None)

    def begin(self, producer_id: int, offset: int) -> None:
        """Called for each batch of a transaction; the first one counts."""
        self._first_offsets.setdefault(producer_id, offset)

    def end(self, producer_id: int, offset: int, *, is_commit: bool) -> AbortedTransaction | None:
        """Its marker is at `offset`; returns what readers are to skip, if anything."""
        first = self._first_offsets.pop(producer_id, None)
        if first is None or is_commit:
            return None
        others = self.first_offset
        stable = offset + 1 if others is None else others
        return AbortedTransaction(producer_id, first, offset, stable)

    def first_offset_of(self, producer_id: int) -> int | None:
        """Where the producer's unfinished transaction begins."""
        return self._first_offsets.get(producer_id)


def aborted_between(
    rows_of_segments: Iterable[list[AbortedTransaction]], offset: int, upper: int
) -> list[AbortedTransaction]:
    """Those with records in [offset, upper), from lists in log order, each by `last_offset`."""
    found: list[AbortedTransaction] = []
    for rows in rows_of_segments:
        for row in rows[bisect_left(rows, offset, key=lambda row: row.last_offset) :]:
            if row.first_offset < upper:
                found.append(row)
            # All that began below it had ended by then.
            if row.stable_offset >= upper:
                return found
    return found
