"""A store that refuses, hangs or goes away is a fault that can be tried again, and says no more."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.artifacts.conftest import BUCKET, S3Server, start_server
from tests.conformance.artifacts.test_artifacts import folder, put
from tidemill.artifacts import ArtifactStore
from tidemill.faults import Fault, Reason


@pytest.fixture
def lonely(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server of the test's own, which it may stop."""
    server = start_server()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    yield server
    server.process.send_signal(signal.SIGCONT)
    server.process.kill()
    server.process.wait()


async def test_a_server_that_is_gone_is_unavailable_and_found_again(
    lonely: S3Server, tmp_path: Path
) -> None:
    store = ArtifactStore(f"s3://{BUCKET}/x")
    artifact = await put(store, tmp_path)
    lonely.process.send_signal(signal.SIGSTOP)
    with pytest.raises(Fault) as caught:
        await store.fetch_folder(artifact.uri, artifact.hash, tmp_path / "into", timeout=2.0)
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert caught.value.retryable
    lonely.process.send_signal(signal.SIGCONT)
    await store.fetch_folder(artifact.uri, artifact.hash, tmp_path / "into")
    lonely.process.kill()
    lonely.process.wait()
    with pytest.raises(Fault) as caught:
        await store.put_folder(folder(tmp_path / "other", a="b"), "other", timeout=20.0)
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE


@pytest.mark.parametrize("missing", ["bucket", "keys"])
async def test_a_store_that_was_set_up_wrong_is_a_fault_without_its_words(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    url = s3_url.replace(BUCKET, "no-such-bucket") if missing == "bucket" else s3_url
    if missing == "keys":
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    with pytest.raises(Fault) as caught:
        await ArtifactStore(url).put_folder(folder(tmp_path / "source", a="b"), "x", timeout=20.0)
    assert caught.value.reason in (Reason.DEPENDENCY_UNAVAILABLE, Reason.NOT_FOUND)
    assert "no-such-bucket" not in str(caught.value.metadata)
