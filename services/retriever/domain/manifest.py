"""One hash for all that an index holds, equal on every replica and after every rebuild."""

import hashlib
from collections.abc import Iterable

Row = tuple[str, int, str]
"""(document, version, chunk id) of a chunk in force."""


class Manifest:
    """Takes the rows a page at a time, in their order: by document, version, and chunk id, texts
    by their code points."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._last_document = ""
        self.documents = 0
        self.chunks = 0

    def add(self, rows: Iterable[Row]) -> None:
        for document_id, version, chunk_id in rows:
            self._digest.update(f"{document_id}\t{version}\t{chunk_id}\n".encode())
            self.documents += document_id != self._last_document
            self._last_document = document_id
            self.chunks += 1

    def hash(self) -> str:
        """SHA-256 of what was added, hexadecimal."""
        return self._digest.hexdigest()


def manifest_hash(rows: Iterable[Row]) -> str:
    """The hash of rows in any order."""
    manifest = Manifest()
    manifest.add(sorted(rows))
    return manifest.hash()
