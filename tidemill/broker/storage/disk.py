"""The only place that writes to files, so that tests can make a disk fail here."""

import os
from collections.abc import Sequence
from pathlib import Path

Buffer = bytes | bytearray | memoryview


class Disk:
    """Writes, syncs and truncates open files; every method raises OSError as the kernel does."""

    def write_at(self, descriptor: int, position: int, chunks: Sequence[Buffer]) -> None:
        """Writes all chunks one after another; after an error any part may be in the file."""
        pending = [memoryview(chunk) for chunk in chunks]
        while pending:
            written = os.pwritev(descriptor, pending, position)
            position += written
            pending = _rest(pending, written)

    def sync(self, descriptor: int) -> None:
        """Returns once everything written to the file survives a power cut."""
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cuts the file to `size` bytes."""
        os.ftruncate(descriptor, size)

    def replace(self, path: Path, content: bytes) -> None:
        """Puts a whole new file in the place of `path`: readers see the old or the new one."""
        temporary = path.with_name(path.name + ".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self.write_at(descriptor, 0, [content])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        self.sync_directory(path.parent)

    def sync_directory(self, directory: Path) -> None:
        """Makes created, renamed and removed names in the directory survive a power cut."""
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _rest(pending: list[memoryview], written: int) -> list[memoryview]:
    for index, chunk in enumerate(pending):
        if written < len(chunk):
            return [chunk[written:], *pending[index + 1 :]]
        written -= len(chunk)
    return []
