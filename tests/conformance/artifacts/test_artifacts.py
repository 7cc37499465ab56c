"""The artifact store keeps folders immutable and hands out nothing that was changed."""

import errno
import os
import time
from pathlib import Path

import aiohttp
import botocore.exceptions
import pytest
from fsspec.core import url_to_fs

from tidemill.artifacts import Artifact, ArtifactStore, file_sha256, manifest_of, store_faults
from tidemill.faults import Fault, Reason

LARGE = 60 * 1024 * 1024


def write(url: str, path: str, content: str) -> None:
    """Behind the store's back."""
    files, root = url_to_fs(url)
    if "file" in files.protocol:
        files.makedirs(str(Path(f"{root}/{path}").parent), exist_ok=True)
    files.pipe_file(f"{root}/{path}", content.encode())


def delete(url: str, path: str) -> None:
    files, root = url_to_fs(url)
    files.rm_file(f"{root}/{path}")


def folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


async def put(store: ArtifactStore, tmp_path: Path) -> Artifact:
    source = folder(tmp_path / "source", config="{}", weights="abc")
    folder(source / "deep", more="x")
    return await store.put_folder(source, "harbor/harbor-v1")


async def test_a_stored_folder_comes_back_whole(store: ArtifactStore, tmp_path: Path) -> None:
    artifact = await put(store, tmp_path)
    fetched = await store.fetch_folder(artifact.uri, artifact.hash, tmp_path / "into")
    assert (fetched / "deep" / "more").read_text() == "x"
    assert manifest_of(fetched) == manifest_of(tmp_path / "source")


async def test_the_hash_follows_the_content_alone(url: str, tmp_path: Path) -> None:
    one = await put(ArtifactStore(f"{url}/a"), tmp_path)
    two = await put(ArtifactStore(f"{url}/b"), tmp_path)
    assert one.hash == two.hash
    assert one.uri != two.uri


async def test_putting_the_same_content_again_is_a_no_op(
    store: ArtifactStore, tmp_path: Path
) -> None:
    assert await put(store, tmp_path) == await put(store, tmp_path)


async def test_a_taken_name_is_never_overwritten(store: ArtifactStore, tmp_path: Path) -> None:
    artifact = await put(store, tmp_path)
    other = folder(tmp_path / "other", weights="changed")
    with pytest.raises(Fault) as caught:
        await store.put_folder(other, "harbor/harbor-v1")
    assert caught.value.metadata["problem"] == "NAME_TAKEN"
    assert await store.fetch_folder(artifact.uri, artifact.hash, tmp_path / "into")


async def test_a_put_that_was_cut_short_is_redone(
    store: ArtifactStore, url: str, tmp_path: Path
) -> None:
    artifact = await put(store, tmp_path)
    delete(url, "harbor/harbor-v1/manifest.json")
    write(url, "harbor/harbor-v1/weights", "half")
    with pytest.raises(Fault) as caught:
        await store.fetch_folder(artifact.uri, artifact.hash, tmp_path / "into")
    assert caught.value.reason is Reason.NOT_FOUND
    assert await put(store, tmp_path) == artifact
    await store.fetch_folder(artifact.uri, artifact.hash, tmp_path / "into")


@pytest.mark.parametrize("file", ["weights", "manifest.json"])
async def test_changed_content_is_refused_and_nothing_is_left(
    store: ArtifactStore, url: str, tmp_path: Path, file: str
) -> None:
    artifact = await put(store, tmp_path)
    write(url, f"harbor/harbor-v1/{file}", "{}")
    with pytest.raises(Fault) as caught:
        await store.fetch_folder(artifact.uri, artifact.hash, tmp_path / "x" / "into")
    assert caught.value.metadata["problem"] == "CONTENT_CHANGED"
    assert not any((tmp_path / "x").glob("*"))


async def test_a_damaged_local_copy_is_fetched_again(store: ArtifactStore, tmp_path: Path) -> None:
    artifact = await put(store, tmp_path)
    into = await store.fetch_folder(artifact.uri, artifact.hash, tmp_path / "into")
    (into / "weights").write_text("damaged")
    await store.fetch_folder(artifact.uri, artifact.hash, into)
    assert (into / "weights").read_text() == "abc"


async def test_a_store_that_moved_still_has_what_events_name(
    store: ArtifactStore, tmp_path: Path
) -> None:
    name = "harbor/adapters/harbor-v1"
    kept = await store.put_folder(folder(tmp_path / "source", a="b"), name)
    for base in ("file:///srv/of/before/artifacts", "s3://bucket-of-before/prefix"):
        into = tmp_path / base.partition(":")[0]
        await store.fetch_folder(f"{base}/{name}", kept.hash, into)
        assert (into / "a").read_text() == "b"
    with pytest.raises(Fault) as caught:
        await store.fetch_folder(f"{base}/{name}", "0" * 64, tmp_path / "other")
    assert caught.value.metadata["problem"] == "OTHER_STORE"


@pytest.mark.parametrize("name", ["../out", "/etc", "a/../b", "", "a b"])
async def test_names_cannot_leave_the_store(
    store: ArtifactStore, tmp_path: Path, name: str
) -> None:
    with pytest.raises(Fault) as caught:
        await store.put_folder(folder(tmp_path / "source", a="b"), name)
    assert caught.value.reason is Reason.INVALID_ARGUMENT


async def test_only_the_stores_own_uris_are_read(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(Fault) as caught:
        await store.fetch_folder("file:///etc", "0" * 64, tmp_path / "into")
    assert caught.value.metadata["problem"] == "OTHER_STORE"


async def test_an_empty_folder_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Fault) as caught:
        await store.put_folder(tmp_path / "empty", "empty")
    assert caught.value.metadata["problem"] == "FOLDER_EMPTY"


async def test_contents_are_put_like_a_folder_of_files(
    store: ArtifactStore, tmp_path: Path
) -> None:
    stored = await store.put_files({"content": b"27 days."}, "originals/harbor/a/b")
    same = await store.put_folder(
        folder(tmp_path / "x", content="27 days."), "originals/harbor/a/c"
    )
    assert stored.hash == same.hash
    fetched = await store.fetch_folder(stored.uri, stored.hash, tmp_path / "into")
    assert (fetched / "content").read_bytes() == b"27 days."


async def test_a_removed_folder_is_gone_and_may_be_removed_again(
    store: ArtifactStore, tmp_path: Path
) -> None:
    names = ["originals/harbor/a", "originals/harbor/b"]
    stored = [await store.put_files({"content": b"x"}, name) for name in names]
    for _ in range(2):
        await store.remove_folder(names[0])
    with pytest.raises(Fault) as caught:
        await store.fetch_folder(stored[0].uri, stored[0].hash, tmp_path / "gone")
    assert caught.value.reason is Reason.NOT_FOUND
    await store.fetch_folder(stored[1].uri, stored[1].hash, tmp_path / "there")


async def test_old_folders_are_listed_whole_or_not(store: ArtifactStore, url: str) -> None:
    assert await store.folders_before("originals", 1e12) == []
    await store.put_files({"content": b"x"}, "originals/harbor/a")
    await store.put_files({"content": b"x"}, "adapters/harbor/a")
    write(url, "originals/harbor/b/content", "put by a process that was killed")
    found = await store.folders_before("originals", time.time() + 60)
    assert found == ["originals/harbor/a", "originals/harbor/b"]
    assert await store.folders_before("originals", time.time() - 60) == []


async def test_what_another_process_stored_is_seen_at_once(
    store: ArtifactStore, url: str, tmp_path: Path
) -> None:
    """A listing that was kept from before must not hide it."""
    into = tmp_path / "into"
    missing = Artifact((await put(store, tmp_path)).uri.replace("-v1", "-v2"), "0" * 64)
    with pytest.raises(Fault) as caught:
        await store.fetch_folder(missing.uri, missing.hash, into)
    assert caught.value.reason is Reason.NOT_FOUND
    source = folder(tmp_path / "second", weights="two")
    stored = await ArtifactStore(url).put_folder(source, "harbor/harbor-v2")
    assert stored.uri == missing.uri
    await store.fetch_folder(stored.uri, stored.hash, into)
    assert (into / "weights").read_text() == "two"


async def test_a_file_of_some_size_comes_back_byte_for_byte(
    store: ArtifactStore, tmp_path: Path
) -> None:
    """Larger than one part of an upload in parts."""
    source = tmp_path / "large"
    source.mkdir()
    (source / "weights").write_bytes(os.urandom(LARGE))
    artifact = await store.put_folder(source, "harbor/large")
    fetched = await store.fetch_folder(artifact.uri, artifact.hash, tmp_path / "into")
    assert file_sha256(fetched / "weights") == file_sha256(source / "weights")


def test_a_full_disk_is_told_apart_from_a_store_that_is_away() -> None:
    with pytest.raises(Fault) as full, store_faults():
        raise OSError(errno.ENOSPC, "no space")
    with pytest.raises(Fault) as away, store_faults():
        raise ConnectionRefusedError
    assert full.value.reason is Reason.STORAGE_FULL
    assert away.value.reason is Reason.DEPENDENCY_UNAVAILABLE


@pytest.mark.parametrize(
    "outage",
    [
        botocore.exceptions.EndpointConnectionError(endpoint_url="http://x"),
        botocore.exceptions.ClientError({"Error": {"Code": "SlowDown"}}, "PutObject"),
        aiohttp.ServerDisconnectedError(),
        TimeoutError(),
        ConnectionResetError(),
    ],
)
def test_an_outage_can_be_tried_again_whatever_library_tells_of_it(outage: Exception) -> None:
    with pytest.raises(Fault) as away, store_faults():
        raise outage
    assert away.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert away.value.metadata == {"dependency": "artifacts"}


@pytest.mark.parametrize("bug", [TypeError, KeyError, ValueError, AttributeError, AssertionError])
def test_a_bug_is_no_outage_that_is_tried_for_ever(bug: type[Exception]) -> None:
    with pytest.raises(bug), store_faults():
        raise bug("ours")
