"""The compose files: they hold together, name what exists, and start nothing with more rights than
it needs."""

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import BIN, DEPLOY, OVERLAYS, PROFILES, composed
from tidemill.settings import SERVICES, MeshSettings

OURS = {*SERVICES, "triton", "credentials", "topics", "migrations", "smoke", "cli"}
ONCE = {"credentials", "topics", "migrations", "smoke", "cli"}
HAS_ITS_OWN_CHECK = {"grafana", "kafka-ui"}
"""An image with a health check inside, and one that is looked at by a person."""
WRITES_TO_ITS_ROOT = {"kafka", "postgres", "milvus", "grafana", "kafka-ui"}
"""Other people's images that do not start on a read-only root."""
EVERY_FILE = pytest.mark.parametrize("overlays", [(), *((name,) for name in OVERLAYS)])


def services(*overlays: str) -> dict[str, Any]:
    return dict(composed(*overlays)["services"])


@EVERY_FILE
@pytest.mark.parametrize(
    "profiles", [c for n in range(len(PROFILES) + 1) for c in combinations(PROFILES, n)]
)
def test_files_and_profiles_go_together(
    overlays: tuple[str, ...], profiles: tuple[str, ...]
) -> None:
    assert set(SERVICES) <= set(composed(*overlays, profiles=profiles)["services"])


@EVERY_FILE
def test_no_container_may_more_than_it_needs(overlays: tuple[str, ...]) -> None:
    for name, service in services(*overlays).items():
        assert service.get("cap_drop") == ["ALL"], name
        assert "no-new-privileges:true" in service.get("security_opt", []), name
        assert not service.get("privileged"), name
        assert service.get("read_only") or name in WRITES_TO_ITS_ROOT, name


def test_the_command_line_may_write_where_a_rebuild_works() -> None:
    cli = composed(profiles=PROFILES)["services"]["cli"]
    written = {entry.partition(":")[0] for entry in cli["tmpfs"]}
    home = "/var/lib/tidemill"
    assert {f"{home}/{name}" for name in ("logs", *SERVICES)} <= written


def test_whoever_writes_artifacts_has_their_volume() -> None:
    """Ingest and the trainer by themselves, and the command line when it rebuilds ingest."""
    held = {
        name: mount.get("read_only", False)
        for name, service in composed(profiles=PROFILES)["services"].items()
        for mount in service.get("volumes", [])
        if mount["target"] == "/var/lib/tidemill/artifacts"
    }
    assert held == {"ingest": False, "trainer": False, "cli": False, "inference": True}


@EVERY_FILE
def test_ports_are_on_loopback(overlays: tuple[str, ...]) -> None:
    for name, service in services(*overlays).items():
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", name


@EVERY_FILE
def test_what_stays_is_checked_bounded_and_started_again(overlays: tuple[str, ...]) -> None:
    for name, service in services(*overlays).items():
        if name in ONCE or name == "repository":
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert name in HAS_ITS_OWN_CHECK or service["healthcheck"]["test"], name


def test_services_run_what_exists_on_their_own_ports() -> None:
    settings = MeshSettings(_env_file=None)
    for name in SERVICES:
        service = services()[name]
        assert service["command"] == ["python", "-m", "services", name]
        assert service["healthcheck"]["test"][-1] == name
        for port in service.get("ports", []):
            assert port["target"] == settings.grpc_port(name)


def test_services_reach_each_other_where_they_listen() -> None:
    environment = services()["inference"]["environment"]
    settings = MeshSettings(service_addresses=environment["TIDEMILL_SERVICE_ADDRESSES"])
    for name in SERVICES:
        assert settings.address_of(name) == f"{name}:{settings.grpc_port(name)}"


def test_the_services_share_one_environment() -> None:
    found = services()
    own = {"TIDEMILL_INFERENCE_MODEL_REPOSITORY"}
    common = [{k: v for k, v in found[n]["environment"].items() if k not in own} for n in SERVICES]
    assert all(each == common[0] for each in common)


def test_every_image_has_a_version() -> None:
    for overlays in ((), OVERLAYS):
        for name, service in services(*overlays).items():
            tag = service["image"].rpartition(":")[2]
            assert tag not in ("", "latest"), name
            assert "/" not in tag, name


def test_no_dockerfile_asks_for_a_front_end() -> None:
    for path in DEPLOY.rglob("Dockerfile*"):
        assert not re.search(r"^#\s*syntax", path.read_text(), re.M), path


def test_secrets_are_marked_for_change() -> None:
    lines = (DEPLOY / ".env").read_text().splitlines()
    secret = [
        n for n, line in enumerate(lines) if re.match(r"\w*(PASSWORD|TOKEN|SECRET)\w*=", line)
    ]
    assert secret
    assert all(lines[number - 1] == "# CHANGEME" for number in secret)


@EVERY_FILE
def test_the_files_are_what_the_compose_specification_says(
    overlays: tuple[str, ...], tmp_path: Path
) -> None:
    """Merged first: the schema does not know the tags that say how to merge."""
    merged = tmp_path / "compose.json"
    merged.write_text(json.dumps(composed(*overlays)))
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", merged]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
