"""A disk that knows what a power cut may take: all that was not synced, files and names alike."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

from tidemill.broker.storage.disk import Buffer, Disk

Choose = Callable[[int], int]
Write = tuple[int, bytes] | int


class PowerIsOff(BaseException):
    """Nothing is written after the cut; no handler of the broker may take it for an error."""


@dataclass(slots=True)
class _File:
    """What is surely on disk, and what came after: writes, or sizes it was cut to."""

    durable: bytes = b""
    pending: list[Write] = field(default_factory=list)


def _one_at_a_time(method: Any) -> Any:
    @wraps(method)
    def locked(self: "PowerCutDisk", *args: Any) -> Any:
        with self._lock:
            return method(self, *args)

    return locked


class PowerCutDisk(Disk):
    """Works on real files and remembers what was synced; `cut` builds the folder after a cut.

    Per file any prefix of the writes since its last sync survives, the last of them torn at any
    byte or replaced by zeros; per directory any prefix of the changes to its names. `stop_after`
    cuts the power in the middle: that many changes are made, the rest raise PowerIsOff.
    """

    def __init__(self, root: Path, stop_after: int | None = None) -> None:
        self.root = root
        # Syncs come from worker threads, writes from the loop.
        self._lock = threading.RLock()
        self.stop_after = stop_after
        self.changes = 0
        self._files: dict[int, _File] = {}
        self._held: list[int] = []
        # Names by directory: the durable ones, and changes since: (name, inode or None).
        self._names: dict[Path, dict[str, int | None]] = {root: {}}
        self._renames: dict[Path, list[list[tuple[str, int | None]]]] = {root: []}
        self._load(root)

    # -- what the broker does

    @_one_at_a_time
    def open(self, path: Path) -> int:
        is_new = not path.exists()
        self._count()
        descriptor = super().open(path)
        if is_new:
            self._link(path, self._adopt(descriptor))
        return descriptor

    @_one_at_a_time
    def create(self, path: Path) -> int:
        self._count()
        path.unlink(missing_ok=True)  # A new inode: the old content may come back by its name.
        descriptor = super().create(path)
        self._link(path, self._adopt(descriptor))
        return descriptor

    @_one_at_a_time
    def write_at(self, descriptor: int, position: int, chunks: Sequence[Buffer]) -> None:
        self._count()
        super().write_at(descriptor, position, chunks)
        self._file(descriptor).pending.append((position, b"".join(chunks)))

    @_one_at_a_time
    def truncate(self, descriptor: int, size: int) -> None:
        self._count()
        super().truncate(descriptor, size)
        self._file(descriptor).pending.append(size)

    @_one_at_a_time
    def sync(self, descriptor: int) -> None:
        self._count()
        file = self._file(descriptor)
        file.durable = _after(file.durable, file.pending)
        file.pending = []

    @_one_at_a_time
    def rename(self, source: Path, target: Path) -> None:
        self._count()
        inode = source.stat().st_ino
        super().rename(source, target)
        self._changes_of(source.parent).append([(source.name, None), (target.name, inode)])

    @_one_at_a_time
    def remove(self, path: Path) -> None:
        self._count()
        if path.exists():
            super().remove(path)
            self._changes_of(path.parent).append([(path.name, None)])

    @_one_at_a_time
    def make_directories(self, path: Path) -> None:
        self._count()
        missing = [p for p in (path, *path.parents) if not p.exists()]
        super().make_directories(path)
        for directory in reversed(missing):
            self._names.setdefault(directory, {})
            self._renames.setdefault(directory, [])
            self._changes_of(directory.parent).append([(directory.name, -1)])

    @_one_at_a_time
    def remove_tree(self, path: Path) -> None:
        self._count()
        super().remove_tree(path)
        self._changes_of(path.parent).append([(path.name, None)])

    @_one_at_a_time
    def sync_directory(self, directory: Path) -> None:
        self._count()
        names = self._names.setdefault(directory, {})
        for change in self._changes_of(directory):
            _apply(names, change)
        self._renames[directory] = []

    # -- the cut

    @_one_at_a_time
    def cut(self, target: Path, choose: Choose) -> None:
        """Builds in `target` what is left of `root`; choose(n) is any whole number up to n."""
        self._rebuild(self.root, target, choose)

    def close(self) -> None:
        """Lets go of the inodes, which were held so that no number comes twice."""
        for descriptor in self._held:
            os.close(descriptor)

    def _rebuild(self, source: Path, target: Path, choose: Choose) -> None:
        target.mkdir(parents=True, exist_ok=True)
        names = dict(self._names.get(source, {}))
        changes = self._renames.get(source, [])
        for change in changes[: choose(len(changes))]:
            _apply(names, change)
        for name, inode in names.items():
            if inode == -1:
                self._rebuild(source / name, target / name, choose)
            elif inode is not None:
                (target / name).write_bytes(self._content(self._files[inode], choose))

    def _content(self, file: _File, choose: Choose) -> bytes:
        kept = choose(len(file.pending))
        content = _after(file.durable, file.pending[:kept])
        torn = file.pending[kept] if kept < len(file.pending) else None
        if not isinstance(torn, tuple):
            return content
        position, data = torn
        part = data[: choose(len(data))]
        if choose(3) == 0:
            part = bytes(len(part))  # The size was written, the bytes were not.
        return _after(content, [(position, part)])

    # -- inside

    def _load(self, directory: Path) -> None:
        """What is there at first is on disk."""
        names = self._names.setdefault(directory, {})
        for path in directory.iterdir() if directory.exists() else ():
            if path.is_dir():
                names[path.name] = -1
                self._load(path)
            else:
                descriptor = os.open(path, os.O_RDONLY)
                names[path.name] = inode = self._adopt(descriptor)
                self._files[inode].durable = path.read_bytes()
                os.close(descriptor)

    def _count(self) -> None:
        if self.stop_after is not None and self.changes >= self.stop_after:
            raise PowerIsOff
        self.changes += 1

    def _adopt(self, descriptor: int) -> int:
        self._held.append(os.dup(descriptor))
        inode = os.fstat(descriptor).st_ino
        self._files[inode] = _File()
        return inode

    def _file(self, descriptor: int) -> _File:
        return self._files[os.fstat(descriptor).st_ino]

    def _link(self, path: Path, inode: int) -> None:
        self._changes_of(path.parent).append([(path.name, inode)])

    def _changes_of(self, directory: Path) -> list[list[tuple[str, int | None]]]:
        return self._renames.setdefault(directory, [])


def _apply(names: dict[str, int | None], change: list[tuple[str, int | None]]) -> None:
    for name, inode in change:
        names[name] = inode


def _after(content: bytes, writes: Sequence[Write]) -> bytes:
    result = bytearray(content)
    for write in writes:
        if isinstance(write, int):
            result[write:] = bytes(max(0, write - len(result)))
            continue
        position, data = write
        result += bytes(max(0, position - len(result)))
        result[position : position + len(data)] = data
    return bytes(result)
