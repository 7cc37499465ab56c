"""The mesh's key: private, whole, and one for all who start at once."""

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tidemill.faults import StartRefused
from tidemill.security.keys import load_or_create_key, mesh_key

PRINT_ID = """
import sys, pathlib
from tidemill.security.keys import load_or_create_key
sys.stdin.readline()
print(load_or_create_key(pathlib.Path(sys.argv[1])).key_id)
"""


def test_the_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    load_or_create_key(tmp_path / "keys")
    assert (tmp_path / "keys" / "mesh.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert [file.name for file in (tmp_path / "keys").iterdir()] == ["mesh.pem"]


def test_the_key_stays_the_same(tmp_path: Path) -> None:
    assert load_or_create_key(tmp_path).key_id == load_or_create_key(tmp_path).key_id


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PRINT_ID, str(tmp_path / "keys")]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    ids = {process.communicate(timeout=60)[0].strip() for process in started}
    assert ids == {load_or_create_key(tmp_path / "keys").key_id}


def test_the_private_key_is_in_no_repr(tmp_path: Path) -> None:
    assert "Ed25519PrivateKey" not in repr(load_or_create_key(tmp_path))


def test_no_key_is_made_outside_development(tmp_path: Path) -> None:
    with pytest.raises(StartRefused) as caught:
        mesh_key(tmp_path, create=False)
    assert caught.value.reason == "KEY_MISSING"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["empty", "text", "rsa", "folder"])
def test_a_file_that_is_no_key_keeps_the_process_from_starting(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mesh.pem"
    if kind == "folder":
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "text": b"hello", "rsa": rsa_pem()}[kind])
    with pytest.raises(StartRefused) as caught:
        mesh_key(tmp_path, create=True)
    assert caught.value.reason == "KEY_UNREADABLE"


def rsa_pem() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
