"""Walks the batches of a log file, header by header."""

import os
from collections.abc import Iterator

from tidemill.broker.storage.batch import HEADER_SIZE, BatchHeader

_WINDOW_BYTES = 1 << 20


def batches(
    descriptor: int, start: int, end: int, *, verify: bool
) -> Iterator[tuple[int, BatchHeader]]:
    """Yields (position, header) of each whole batch between two positions of a file.

    Stops without an error at the first bytes that are no whole batch, and with `verify` at
    the first batch whose checksum is wrong; the caller compares where it stopped with `end`.
    """
    window, window_at, position = b"", start, start
    while end - position >= HEADER_SIZE:
        if position + HEADER_SIZE > window_at + len(window):
            window, window_at = os.pread(descriptor, _WINDOW_BYTES, position), position
            if len(window) < HEADER_SIZE:
                return
        header = BatchHeader.read(window, position - window_at)
        if not header.is_plausible() or header.size > end - position:
            return
        if verify:
            if position + header.size > window_at + len(window):
                wanted = max(_WINDOW_BYTES, header.size)
                window, window_at = os.pread(descriptor, wanted, position), position
            if not header.checksum_matches(window, position - window_at):
                return
        yield position, header
        position += header.size


def find_whole_batch(descriptor: int, start: int, end: int, base_offset: int) -> int | None:
    """Position of the first intact batch after damage, or None if only a torn tail is left.

    `base_offset` is the lowest offset it may carry: noise that looks like a batch is not one.
    """
    window, window_at = b"", start
    for position in range(start, end - HEADER_SIZE + 1):
        if position + HEADER_SIZE > window_at + len(window):
            window, window_at = os.pread(descriptor, _WINDOW_BYTES, position), position
        if window[position - window_at + 16] != 2:
            continue
        header = BatchHeader.read(window, position - window_at)
        if not header.is_plausible() or header.base_offset < base_offset:
            continue
        if next(batches(descriptor, position, end, verify=True), None) is not None:
            return position
    return None
