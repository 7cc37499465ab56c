"""The manifests: they build, Kubernetes' schemas take them, and they name what exists."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.trainer.settings import TrainerSettings
from tests.deploy.files import BIN, DEPLOY
from tests.deploy.tools import kubectl
from tidemill.bus.kafka import group_of
from tidemill.settings import SERVICES, MeshSettings
from tidemill.topics import CATALOGUE

K8S = DEPLOY / "k8s"
OVERLAYS = ("cpu", "gpu")
OF_OPERATORS = {"ScaledObject", "ScaledJob", "TriggerAuthentication"}
VERSION = "1.36"
EACH = pytest.mark.parametrize("overlay", OVERLAYS)


def build(overlay: Path) -> list[dict[str, Any]]:
    command = [kubectl(), "kustomize", str(overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@cache
def built(overlay: str) -> list[dict[str, Any]]:
    return build(K8S / "overlays" / overlay)


def documents(overlay: str, *kinds: str) -> list[dict[str, Any]]:
    return [each for each in built(overlay) if not kinds or each["kind"] in kinds]


def pods(overlay: str) -> dict[str, dict[str, Any]]:
    """Pod specs by the name of what makes them."""
    found = {d["metadata"]["name"]: d["spec"] for d in documents(overlay, "Deployment", "Job")}
    jobs = {
        d["metadata"]["name"]: d["spec"]["jobTargetRef"] for d in documents(overlay, "ScaledJob")
    }
    return {name: spec["template"]["spec"] for name, spec in (found | jobs).items()}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


@EACH
def test_the_schemas_of_kubernetes_take_them(overlay: str, tmp_path: Path) -> None:
    for number, document in enumerate(documents(overlay)):
        if document["kind"] not in OF_OPERATORS:
            (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(document))
    command = [BIN / "kubernetes-validate", "--strict", "-k", VERSION, *tmp_path.glob("*.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_misspelt_field_is_found(tmp_path: Path) -> None:
    shutil.copytree(K8S, tmp_path / "k8s")
    path = tmp_path / "k8s" / "base" / "monitor.yaml"
    path.write_text(path.read_text().replace("readinessProbe:", "readynessProbe:"))
    wrong = tmp_path / "wrong.yaml"
    each = build(tmp_path / "k8s" / "overlays" / "cpu")
    deployments = [d for d in each if d["kind"] == "Deployment"]
    monitor = next(d for d in deployments if d["metadata"]["name"] == "monitor")
    wrong.write_text(yaml.safe_dump(monitor))
    command = [BIN / "kubernetes-validate", "--strict", "-k", VERSION, wrong]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode != 0


@EACH
def test_no_container_may_more_than_it_needs(overlay: str) -> None:
    for name, pod in pods(overlay).items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in containers(pod):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"], (name, container["name"])
            assert context["allowPrivilegeEscalation"] is False, (name, container["name"])
            assert context["capabilities"] == {"drop": ["ALL"]}, (name, container["name"])
            assert container["resources"]["limits"]["memory"], (name, container["name"])
            assert container["resources"]["requests"]["cpu"], (name, container["name"])


@EACH
def test_every_image_has_a_registry_and_a_version(overlay: str) -> None:
    images = {c["image"] for pod in pods(overlay).values() for c in containers(pod)}
    assert all(re.fullmatch(r"registry\.example/[a-z-]+:[0-9.]+", image) for image in images)


@EACH
def test_volumes_that_are_mounted_exist(overlay: str) -> None:
    for name, pod in pods(overlay).items():
        known = {volume["name"] for volume in pod.get("volumes", [])}
        used = {m["name"] for c in containers(pod) for m in c.get("volumeMounts", [])}
        assert used <= known, name


def test_services_run_what_exists_and_are_asked_on_their_own_ports() -> None:
    settings = MeshSettings()
    for name in SERVICES:
        (service,) = pods("cpu")[name]["containers"]
        assert service["args"] == ["python", "-m", "services", name]
        ports = {port["name"]: port["containerPort"] for port in service["ports"]}
        wanted = {"grpc": settings.grpc_port(name), "metrics": settings.metrics_port(name)}
        assert ports == wanted, name
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert service[probe]["exec"]["command"][-1] == name


def test_services_reach_each_other_where_they_listen() -> None:
    lines = (K8S / "base" / "config.env").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    settings = MeshSettings(service_addresses=values["TIDEMILL_SERVICE_ADDRESSES"])
    headless = {d["metadata"]["name"]: d["spec"] for d in documents("cpu", "Service")}
    for name in SERVICES:
        assert settings.address_of(name) == f"dns:///{name}:{settings.grpc_port(name)}"
        assert headless[name]["clusterIP"] == "None"


def test_lag_is_asked_of_groups_and_topics_that_exist() -> None:
    partitions = {topic.name: topic.partitions for topic in CATALOGUE}
    seen = set()
    for scaled in documents("cpu", "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            if trigger["type"] != "kafka":
                continue
            name, facts = scaled["spec"]["scaleTargetRef"]["name"], trigger["metadata"]
            seen.add(name)
            assert facts["consumerGroup"] == group_of(name, facts["topic"])
            assert scaled["spec"]["maxReplicaCount"] <= partitions[facts["topic"]]
            assert facts["allowIdleConsumers"] == "false"
            assert facts["excludePersistentLag"] == "true"
    assert seen == {"ingest", "embedder", "retriever"}


def test_what_is_scaled_has_no_number_of_its_own() -> None:
    scaled = {d["spec"]["scaleTargetRef"]["name"] for d in documents("cpu", "ScaledObject")}
    for deployment in documents("cpu", "Deployment"):
        assert (deployment["metadata"]["name"] in scaled) == ("replicas" not in deployment["spec"])


def test_jobs_are_asked_for_by_runs_as_the_trainer_keeps_them() -> None:
    from services.trainer.adapters.store import RunRow, RunState

    (job,) = documents("cpu", "ScaledJob")
    query = job["spec"]["triggers"][0]["metadata"]["query"]
    rows, where = query.removeprefix("SELECT count(*) FROM ").split(" WHERE ")
    assert rows == f"trainer.{RunRow.__tablename__}"
    assert where == f"state = '{RunState.RUNNING}'"


def test_everything_is_denied_before_anything_is_allowed() -> None:
    policies = {d["metadata"]["name"]: d["spec"] for d in documents("cpu", "NetworkPolicy")}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, spec in policies.items():
        for rule in [*spec.get("ingress", []), *spec.get("egress", [])]:
            assert rule.get("from") or rule.get("to"), name
            assert rule.get("ports"), name


def test_whoever_keeps_artifacts_may_reach_their_store() -> None:
    policies = {d["metadata"]["name"]: d["spec"] for d in documents("cpu", "NetworkPolicy")}
    (names,) = policies["artifacts"]["podSelector"]["matchExpressions"]
    jobs = {d["metadata"]["name"] for d in documents("cpu", "ScaledJob")}
    assert set(names["values"]) == {"ingest", "inference", "trainer"} | jobs


def test_no_budget_forbids_a_drain() -> None:
    for budget in documents("cpu", "PodDisruptionBudget"):
        assert budget["spec"]["maxUnavailable"] == 1


def test_no_secret_is_in_the_repository() -> None:
    assert documents("cpu", "Secret") == []
    assert documents("gpu", "Secret") == []


def test_monitoring_is_added_to_an_overlay(tmp_path: Path) -> None:
    shutil.copytree(K8S, tmp_path / "k8s")
    overlay = tmp_path / "k8s" / "overlays" / "cpu"
    with (overlay / "kustomization.yaml").open("a") as file:
        file.write("components: [../../components/monitoring]\n")
    kinds = [d["kind"] for d in build(overlay)]
    assert kinds.count("ServiceMonitor") == 2
    assert kinds.count("PrometheusRule") == 1


def test_a_run_may_be_trained_by_several_pods_that_find_each_other(tmp_path: Path) -> None:
    shutil.copytree(K8S, tmp_path / "k8s")
    overlay = tmp_path / "k8s" / "overlays" / "gpu"
    with (overlay / "kustomization.yaml").open("a") as file:
        file.write("components: [../../components/distributed-training]\n")
    documents = build(overlay)
    spec = next(d["spec"] for d in documents if d["kind"] == "ScaledJob")["jobTargetRef"]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "training-x7k2p"},
        "spec": spec,
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    command = [BIN / "kubernetes-validate", "--strict", "-k", VERSION, tmp_path / "job.yaml"]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    pod = spec["template"]["spec"]
    env = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    machines = int(env["TIDEMILL_TRAINER_MACHINES"])
    assert spec["completionMode"] == "Indexed"
    assert spec["parallelism"] == spec["completions"] == machines
    # As Kubernetes would fill them in for the first pod.
    meeting = env["TIDEMILL_TRAINER_MEETING"].replace("$(JOB_NAME)", job["metadata"]["name"])
    settings = TrainerSettings(machines=machines, machine=1, meeting=meeting, trains=False)
    host, _, port = settings.meeting.rpartition(":")
    assert host == f"{job['metadata']['name']}-0.{pod['subdomain']}"
    (named,) = (
        d for d in documents if d["kind"] == "Service" and d["metadata"]["name"] == pod["subdomain"]
    )
    assert named["spec"]["selector"].items() <= spec["template"]["metadata"]["labels"].items()
    assert [each["port"] for each in named["spec"]["ports"]] == [int(port)]


def test_the_operators_rules_are_those_of_prometheus() -> None:
    rules = yaml.safe_load((K8S / "components/monitoring/rules.yaml").read_text())
    plain = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())
    assert rules["spec"]["groups"] == plain["groups"]
