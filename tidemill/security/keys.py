"""The mesh's own Ed25519 key: made at first start in development, mounted in a cluster."""

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


@dataclass(frozen=True)
class MeshKey:
    """Signs the tokens that the mesh mints; key_id is in the token's header."""

    key_id: str
    private: Ed25519PrivateKey

    @property
    def public(self) -> Ed25519PublicKey:
        return self.private.public_key()


def load_or_create_key(folder: Path) -> MeshKey:
    """The key in folder/mesh.pem, made with mode 0600 when there is none.

    Several processes may start at once: the first one's link wins, all read the same file.
    """
    path = folder / "mesh.pem"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = folder / f"mesh.pem.{os.getpid()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(encode_private(Ed25519PrivateKey.generate()))
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return read_key(path)


def read_key(path: Path) -> MeshKey:
    private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError(f"{path} is not an Ed25519 key")
    raw = private.public_key().public_bytes_raw()
    return MeshKey(key_id=raw.hex()[:16], private=private)


def encode_private(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
