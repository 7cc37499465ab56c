"""From one key of the mesh to the next, without a moment in which a good token is refused.

Two steps, each followed by a restart of every service in any order: the next key is made, and all
come to trust it; then it signs, and the one before is trusted for a while. What it signed on the
log stays good, because an event's token is judged by the time that the broker stamped.
"""

import json
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tidemill.faults import StartRefused
from tidemill.security.keys import (
    KEY_FILE,
    PSEUDONYM_FILE,
    MeshKey,
    key_id_of,
    mesh_key,
    read_key,
    write_private,
    write_secret,
)
from tidemill.security.tokens import pseudonym_secret

NEXT_FILE = "next.pem"


@dataclass(frozen=True)
class Switched:
    """before and after: key ids."""

    before: str
    after: str


def make_next(folder: Path) -> str:
    """The next key, trusted from the next start on; that of an earlier call if it still waits.
    Returns its id. Raises StartRefused."""
    mesh_key(folder, create=False)
    path = folder / NEXT_FILE
    if not path.exists():
        temporary = beside(path)
        write_private(temporary, Ed25519PrivateKey.generate())
        temporary.replace(path)
    key = read_key(path)
    trust(folder, key.public, None)
    return key.key_id


def switch(folder: Path, until: datetime) -> Switched:
    """The next key signs from the next start on; the one before is trusted until then.

    A kill at any point leaves a folder from which this can be called again. Raises StartRefused.
    """
    if not (folder / NEXT_FILE).exists():
        raise StartRefused("NO_NEXT_KEY", "first: tidemill keys next, then restart every service")
    before, after = mesh_key(folder, create=False), read_key(folder / NEXT_FILE)
    keep_pseudonyms(folder, before)
    trust(folder, before.public, until)
    (folder / NEXT_FILE).replace(folder / KEY_FILE)
    (folder / name_of(after.public)).unlink(missing_ok=True)
    return Switched(before.key_id, after.key_id)


def keep_pseudonyms(folder: Path, key: MeshKey) -> None:
    """Users keep their pseudonyms: what was learned of a share by user stays true."""
    if key.pseudonyms:
        return
    temporary = beside(folder / PSEUDONYM_FILE)
    write_secret(temporary, pseudonym_secret(key).hex().encode())
    temporary.replace(folder / PSEUDONYM_FILE)


def trust(folder: Path, public: Ed25519PublicKey, until: datetime | None) -> None:
    said = {"public": public.public_bytes_raw().hex(), "until": until and until.isoformat()}
    path = folder / name_of(public)
    temporary = beside(path)
    write_secret(temporary, json.dumps(said).encode())
    temporary.replace(path)


def name_of(public: Ed25519PublicKey) -> str:
    return f"trusted-{key_id_of(public.public_bytes_raw())}.json"


def beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{secrets.token_hex(8)}")
