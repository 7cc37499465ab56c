"""The only place that changes files and folders, so that tests can make a disk fail here."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

Buffer = bytes | bytearray | memoryview


class Disk:
    """Changes to files and to the names of files; all raise OSError as the kernel does.

    A name that was made, changed or removed survives a power cut only once its directory is
    synced, whatever was done to the file itself.
    """

    def open(self, path: Path) -> int:
        """Opens a file to read and write; makes it if there is none."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def create(self, path: Path) -> int:
        """Opens an empty file in the place of whatever was there."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def rename(self, source: Path, target: Path) -> None:
        """Gives a file another name, in the place of the file that had it."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Removes a file, if it is there."""
        path.unlink(missing_ok=True)

    def make_directories(self, path: Path) -> None:
        """Makes a directory and those above it, as far as they are missing."""
        path.mkdir(parents=True, exist_ok=True)

    def remove_tree(self, path: Path) -> None:
        """Removes a directory with all that is in it, as far as that can be done."""
        shutil.rmtree(path, ignore_errors=True)

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
        descriptor = self.create(temporary)
        try:
            self.write_at(descriptor, 0, [content])
            self.sync(descriptor)
        finally:
            os.close(descriptor)
        self.rename(temporary, path)
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
