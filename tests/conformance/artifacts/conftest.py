"""Every test here runs on a folder, on a real S3 server, and on the store that
TIDEMILL_TEST_ARTIFACTS names (an fsspec URL; each test works below a prefix of its own)."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from tests.given import given
from tests.ports import free_port_base, wait_for
from tidemill.artifacts import ArtifactStore

GIVEN = "TIDEMILL_TEST_ARTIFACTS"
BUCKET = "tidemill"
ACCESS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@dataclass
class S3Server:
    """moto's server: the S3 protocol over HTTP, in a process of its own."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def start_server() -> S3Server:
    port = free_port_base()
    command = [sys.executable, "-m", "moto.server", "--port", str(port)]
    # It answers by time and region alone; the keys of whoever runs the tests stay out of it.
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | ACCESS
    )
    wait_for(port, process)
    server = S3Server(port, process)
    options = {name.removeprefix("AWS_").lower(): value for name, value in ACCESS.items()}
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=options["access_key_id"],
        aws_secret_access_key=options["secret_access_key"],
        region_name=options["default_region"],
    )
    client.create_bucket(Bucket=BUCKET)
    return server


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    server = start_server()
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def s3_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix of its own, reached as a deployment reaches it: by the environment alone."""
    for name, value in ACCESS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(params=["folder", "s3", "given"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty store."""
    if request.param == "folder":
        return str(tmp_path / "store")
    if request.param == "s3":
        return str(request.getfixturevalue("s3_url"))
    return f"{given(GIVEN, 'store').rstrip('/')}/{uuid.uuid4().hex}"


@pytest.fixture
def store(url: str) -> ArtifactStore:
    return ArtifactStore(url)
