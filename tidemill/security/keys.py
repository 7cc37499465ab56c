"""The mesh's own Ed25519 key: made at first start in development, mounted in a cluster."""

import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tidemill.faults import StartRefused

KEY_FILE = "mesh.pem"
PSEUDONYM_FILE = "pseudonyms.secret"
"""The secret behind pseudonyms, once the key that it came from is no longer the mesh's."""
TRUSTED = "trusted-*.json"


@dataclass(frozen=True)
class TrustedKey:
    """Another key whose tokens count: the next one, or one before. until: a token must have been
    used by then; None for a key that is still to come."""

    key_id: str
    public: Ed25519PublicKey
    until: datetime | None


@dataclass(frozen=True)
class MeshKey:
    """Signs the tokens that the mesh mints; key_id is in the token's header.

    pseudonyms: the secret behind them, where it does not come of this key.
    """

    key_id: str
    private: Ed25519PrivateKey = field(repr=False)
    trusted: tuple[TrustedKey, ...] = ()
    pseudonyms: bytes = field(default=b"", repr=False)

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
    return open_key(folder)


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
    return open_key(folder)


def open_key(folder: Path) -> MeshKey:
    """The mesh's key with all that lies beside it. Raises StartRefused."""
    secret = folder / PSEUDONYM_FILE
    return replace(
        read_key(folder / KEY_FILE),
        trusted=tuple(read_trusted(path) for path in sorted(folder.glob(TRUSTED))),
        pseudonyms=bytes.fromhex(secret.read_text()) if secret.exists() else b"",
    )


def read_trusted(path: Path) -> TrustedKey:
    """Raises StartRefused when the file is none of ours."""
    try:
        said = json.loads(path.read_text())
        public = bytes.fromhex(said["public"])
        until = datetime.fromisoformat(said["until"]) if said["until"] else None
        return TrustedKey(key_id_of(public), Ed25519PublicKey.from_public_bytes(public), until)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartRefused("KEY_UNREADABLE", f"{path} is not a trusted key") from error


def key_id_of(public: bytes) -> str:
    return public.hex()[:16]


def write_private(path: Path, key: Ed25519PrivateKey) -> None:
    write_secret(path, encode_private(key))


def write_secret(path: Path, content: bytes) -> None:
    """Whole and on the disk before it is linked: an emptied key would lock everyone out. Raises
    StartRefused for a folder that takes no files."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        hint = f"{path.parent} takes no files: {os.strerror(error.errno or 0)}"
        raise StartRefused("KEYS_NOT_WRITABLE", hint) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
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
    return MeshKey(key_id_of(private.public_key().public_bytes_raw()), private)


def encode_private(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
