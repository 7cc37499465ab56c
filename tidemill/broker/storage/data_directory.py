"""The broker's folder: one process at a time, a journal, and a folder per topic."""

import fcntl
import os
from pathlib import Path
from uuid import UUID

from tidemill.broker.errors import StartupRefused
from tidemill.broker.storage.disk import Disk

_READABLE_CHARS = 80


class DataDirectory:
    """Holds the lock on the folder from construction to `close`.

    Raises StartupRefused: DATA_DIR_IN_USE or DATA_DIR_UNUSABLE.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self._disk = disk
        self._topics = path / "topics"
        try:
            self._make_directories()
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock = os.open(path / ".lock", flags, 0o600)
        except OSError as error:
            raise StartupRefused(
                "DATA_DIR_UNUSABLE", f"cannot write to {path}; pass another --data-dir"
            ) from error
        self._take_lock()

    @property
    def journal_path(self) -> Path:
        """Where the journal lies."""
        return self.path / "journal"

    def partition_path(self, topic_id: UUID, name: str, partition: int) -> Path:
        """A partition's folder; by topic id, so a topic made anew never sees old records."""
        return self._topics / _folder(topic_id, name) / str(partition)

    def remove_topic(self, topic_id: UUID, name: str) -> None:
        """Removes a deleted topic's records."""
        self._disk.remove_tree(self._topics / _folder(topic_id, name))

    def remove_all_but(self, topics: dict[UUID, str]) -> None:
        """Removes what deletions cut short by a crash left behind."""
        wanted = {_folder(topic_id, name) for topic_id, name in topics.items()}
        for path in self._topics.iterdir():
            if path.name not in wanted:
                self._disk.remove_tree(path)

    def close(self) -> None:
        """Lets another process have the folder."""
        os.close(self._lock)

    def _make_directories(self) -> None:
        """The names survive a power cut: what is synced inside is worth nothing without them."""
        missing = [path for path in (self._topics, *self._topics.parents) if not path.exists()]
        self._disk.make_directories(self._topics)
        for path in missing:
            self._disk.sync_directory(path.parent)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise StartupRefused(
                "DATA_DIR_IN_USE",
                f"another broker runs on {self.path}; stop it or pass another --data-dir",
            ) from error


def _folder(topic_id: UUID, name: str) -> str:
    return f"{topic_id.hex}-{name[:_READABLE_CHARS]}"
