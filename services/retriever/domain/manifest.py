"""One hash for all that an index holds, equal on every replica and after every rebuild."""

import hashlib
from collections.abc import Iterable


def manifest_hash(rows: Iterable[tuple[str, int, str]]) -> str:
    """SHA-256 over the sorted (document, version, chunk id) rows, hexadecimal."""
    digest = hashlib.sha256()
    for document_id, version, chunk_id in sorted(rows):
        digest.update(f"{document_id}\t{version}\t{chunk_id}\n".encode())
    return digest.hexdigest()
