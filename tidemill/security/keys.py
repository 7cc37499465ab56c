"""The mesh's own Ed25519 key: made at first start in development, mounted in a cluster."""

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tidemill.faults import StartRefused

KEY_FILE = "mesh.pem"


@dataclass(frozen=True)
class MeshKey:
    """Signs the tokens that the mesh mints; key_id is in the token's header."""

    key_id: str
    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> Ed25519PublicKey:
        return self.private.public_key()


def mesh_key(folder: Path, *, create: bool) -> MeshKey:
    """The key in folder/mesh.pem; StartRefused when there is none and it may not be made."""
    if create:
        return load_or_create_key(folder)
    if not (folder / KEY_FILE).exists():
        hint = f"put an Ed25519 key in PEM at {folder / KEY_FILE}; only development makes one"
        raise StartRefused("KEY_MISSING", hint)
    return read_key(folder / KEY_FILE)


def load_or_create_key(folder: Path) -> MeshKey:
    """The key in folder/mesh.pem, made with mode 0600 when there is none.

    Several processes may start at once: the first one's link wins, all read the same file.
    """
    path = folder / KEY_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = folder / f"{KEY_FILE}.{secrets.token_hex(8)}"
        try:
            write_private(temporary, Ed25519PrivateKey.generate())
            with suppress(FileExistsError):
                # Not a rename: that would replace the key which another process reads by now.
                path.hardlink_to(temporary)
        finally:
            temporary.unlink(missing_ok=True)
    return read_key(path)


def write_private(path: Path, key: Ed25519PrivateKey) -> None:
    """Whole and on the disk before it is linked: an emptied key would lock everyone out."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(encode_private(key))
        file.flush()
        os.fsync(file.fileno())


def read_key(path: Path) -> MeshKey:
    """StartRefused when the file is not an Ed25519 key that this process may read."""
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise StartRefused("KEY_UNREADABLE", f"{path} is not a readable PEM key") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise StartRefused("KEY_UNREADABLE", f"{path} is not an Ed25519 key")
    raw = private.public_key().public_bytes_raw()
    return MeshKey(key_id=raw.hex()[:16], private=private)


def encode_private(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
