"""Immutable folders in an object store: a manifest of hashes, written last and checked on use."""

import asyncio
import errno
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import structlog
from fsspec.core import url_to_fs

from tidemill.faults import Fault, Reason

log = structlog.get_logger()

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_NAME_PARTS = 4
TRANSFER_SECONDS = 300.0
OBJECT_STORES = frozenset({"s3", "gs", "gcs", "abfs", "az"})
AMAZON = {"botocore", "aiobotocore", "boto3"}
STORE_LIBRARIES = AMAZON | {"aiohttp", "urllib3", "requests", "google", "gcsfs", "azure"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class Artifact:
    """A stored folder; `hash` is the SHA-256 of its manifest, hexadecimal."""

    uri: str
    hash: str


class ArtifactStore:
    """Folders under one fsspec URL: a local folder, "s3://bucket/prefix" and so on.

    Faults: NOT_FOUND, FAILED_PRECONDITION with metadata problem=..., STORAGE_FULL, and
    DEPENDENCY_UNAVAILABLE when the store does not answer.
    """

    def __init__(self, url: str) -> None:
        self._files, self._root = url_to_fs(url, **options_of(url))
        self._base = self._files.unstrip_protocol(self._root).rstrip("/")

    async def put_folder(
        self, folder: Path, name: str, timeout: float = TRANSFER_SECONDS
    ) -> Artifact:
        """Store the folder's files under the name, once: the same content again is a no-op.

        Other content under a taken name is refused with problem=NAME_TAKEN.
        """
        with store_faults():
            async with asyncio.timeout(timeout):
                return await asyncio.to_thread(self._put, files_of(folder), checked(name))

    async def put_files(
        self, files: Mapping[str, bytes], name: str, timeout: float = TRANSFER_SECONDS
    ) -> Artifact:
        """The same with contents by relative path."""
        with store_faults():
            async with asyncio.timeout(timeout):
                return await asyncio.to_thread(self._put, files, checked(name))

    async def remove_folder(self, name: str, timeout: float = TRANSFER_SECONDS) -> None:
        """The folder is gone; one that is not there stays so."""
        with store_faults():
            async with asyncio.timeout(timeout):
                await asyncio.to_thread(self._remove, checked(name))

    async def folders_before(
        self, prefix: str, time: float, timeout: float = TRANSFER_SECONDS
    ) -> list[str]:
        """Names under the prefix of folders, whole or not, in which nothing was put since then.

        time: seconds since the epoch, by the store's clock.
        """
        with store_faults():
            async with asyncio.timeout(timeout):
                return await asyncio.to_thread(self._folders_before, checked(prefix), time)

    async def fetch_folder(
        self, uri: str, hash: str, into: Path, timeout: float = TRANSFER_SECONDS
    ) -> Path:
        """Bring the folder to `into`, all of it verified against the hash, or nothing.

        A folder that is there already and verifies is kept. Content that differs from the hash
        is refused with problem=CONTENT_CHANGED. A URI of before the store moved is looked for by
        the end of its path and its hash. Returns `into`.
        """
        with store_faults():
            async with asyncio.timeout(timeout):
                return await asyncio.to_thread(self._fetch, uri, hash, into)

    def _put(self, files: Mapping[str, Path | bytes], name: str) -> Artifact:
        manifest = manifest_of_files(files)
        target = f"{self._root}/{name}"
        artifact = Artifact(f"{self._base}/{name}", sha256(manifest))
        if self._files.exists(f"{target}/{MANIFEST}"):
            if self._read_manifest(target) != manifest:
                raise Fault(Reason.FAILED_PRECONDITION, problem="NAME_TAKEN", artifact=name)
            return artifact
        for file, content in files.items():
            self._make_folder(str(PurePosixPath(target, file).parent))
            if isinstance(content, bytes):
                self._files.pipe_file(f"{target}/{file}", content)
            else:
                self._files.put_file(str(content), f"{target}/{file}")
        # The manifest makes the folder exist: a put that was killed before it is simply redone.
        self._make_folder(target)
        self._files.pipe_file(f"{target}/{MANIFEST}.part", manifest)
        self._files.mv(f"{target}/{MANIFEST}.part", f"{target}/{MANIFEST}")
        return artifact

    def _remove(self, name: str) -> None:
        """Without its manifest it is no folder any more, so that goes first."""
        target = f"{self._root}/{name}"
        for path in (f"{target}/{MANIFEST}", target):
            if self._files.exists(path):
                self._files.rm(path, recursive=True)

    def _folders_before(self, prefix: str, time: float) -> list[str]:
        changed: dict[str, float] = {}
        for path, info in self._files.find(f"{self._root}/{prefix}", detail=True).items():
            name = str(PurePosixPath(path).parent).removeprefix(f"{self._root}/")
            changed[name] = max(changed_at(info), changed.get(name, 0.0))
        return sorted(name for name, moment in changed.items() if moment < time)

    def _make_folder(self, path: str) -> None:
        """An object store has none, and asking for one there would make a missing bucket."""
        if not OBJECT_STORES.intersection(protocols_of(self._files)):
            self._files.makedirs(path, exist_ok=True)

    def _fetch(self, uri: str, hash: str, into: Path) -> Path:
        if into.is_dir() and verifies(into, hash):
            return into
        source = self._path_of(uri, hash)
        manifest = self._read_manifest(source)
        require(sha256(manifest) == hash)
        into.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into.parent, prefix=f".{into.name}-") as scratch:
            received = Path(scratch, "folder")
            self._receive(source, json.loads(manifest), received)
            (received / MANIFEST).write_bytes(manifest)
            shutil.rmtree(into, ignore_errors=True)
            received.rename(into)
        return into

    def _receive(self, source: str, files: Mapping[str, str], folder: Path) -> None:
        for file, digest in files.items():
            target = folder / checked(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(f"{source}/{file}", str(target))
            require(file_sha256(target) == digest)

    def _read_manifest(self, target: str) -> bytes:
        content: Any = self._files.cat_file(f"{target}/{MANIFEST}", end=MAX_MANIFEST_BYTES)
        return bytes(content)

    def _path_of(self, uri: str, hash: str) -> str:
        """Always of this store: an event must not make us read elsewhere."""
        if uri.startswith(f"{self._base}/"):
            return f"{self._root}/{checked(uri.removeprefix(f'{self._base}/'))}"
        for name in endings(uri):
            path = f"{self._root}/{name}"
            if (
                self._files.exists(f"{path}/{MANIFEST}")
                and sha256(self._read_manifest(path)) == hash
            ):
                return path
        raise Fault(Reason.FAILED_PRECONDITION, problem="OTHER_STORE")


def protocols_of(files: Any) -> tuple[str, ...]:
    """Names that a library's file system goes by."""
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


def options_of(url: str) -> dict[str, Any]:
    """A connection of our own, no memory of what another process may have changed, and bounds
    on each request where the library has none of its own."""
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if url.startswith("s3://"):
        options["config_kwargs"] = {
            "connect_timeout": 5,
            "read_timeout": 20,
            "retries": {"max_attempts": 3, "mode": "standard"},
        }
    return options


def changed_at(info: Mapping[str, Any]) -> float:
    """Seconds since the epoch; each library names it otherwise."""
    moment = next(info[key] for key in ("mtime", "LastModified", "last_modified") if key in info)
    return float(moment.timestamp() if isinstance(moment, datetime) else moment)


def files_of(folder: Path) -> dict[str, Path]:
    """By relative path."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }


def manifest_of(folder: Path) -> bytes:
    return manifest_of_files(files_of(folder))


def manifest_of_files(files: Mapping[str, Path | bytes]) -> bytes:
    """JSON object of relative path to SHA-256, sorted: equal content gives equal bytes."""
    if not files:
        raise Fault(Reason.FAILED_PRECONDITION, problem="FOLDER_EMPTY")
    hashes = {
        name: sha256(content) if isinstance(content, bytes) else file_sha256(content)
        for name, content in files.items()
    }
    return json.dumps(hashes, sort_keys=True, separators=(",", ":")).encode()


def verifies(folder: Path, hash: str) -> bool:
    """True when the folder holds exactly the files behind the hash."""
    try:
        return sha256(manifest_of(folder)) == hash
    except Fault:
        return False


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def endings(uri: str) -> Iterator[str]:
    """What the name in a store may be, of a URI whose store was somewhere else then."""
    parts = uri.split("/")
    for length in range(min(MAX_NAME_PARTS, len(parts)), 0, -1):
        name = "/".join(parts[-length:])
        if NAME.fullmatch(name) and ".." not in name:
            yield name


def checked(name: str) -> str:
    if not NAME.fullmatch(name) or ".." in name:
        raise Fault(Reason.INVALID_ARGUMENT, field="artifact_name")
    return name


def require(unchanged: bool) -> None:
    if not unchanged:
        raise Fault(Reason.FAILED_PRECONDITION, problem="CONTENT_CHANGED")


@contextmanager
def store_faults() -> Iterator[None]:
    """Turns the errors of whatever library reaches the store into faults; a bug stays what it is,
    since trying it again for ever would hide it."""
    try:
        yield
    except Fault:
        raise
    except FileNotFoundError as error:
        raise Fault(Reason.NOT_FOUND, resource="artifact") from error
    except OSError as error:  # TimeoutError is one too
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = Reason.STORAGE_FULL if full else Reason.DEPENDENCY_UNAVAILABLE
        raise Fault(reason, dependency="artifacts") from error
    except Exception as error:
        if not is_of_a_store(error):
            raise
        log.warning("artifact_store_failed", error=type(error).__name__)
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="artifacts") from error


def is_of_a_store(error: Exception) -> bool:
    """Whether a library that reaches object stores made the error. They have no root in common,
    their own are no OSError, and which of them are installed depends on the store."""
    return any(kind.__module__.partition(".")[0] in STORE_LIBRARIES for kind in type(error).__mro__)
