"""The whole loop on a mesh of processes: learn, gate, promote, refuse, alert; then use it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.mesh import Mesh
from tests.home import new_home

pytestmark = [pytest.mark.triton, pytest.mark.slow, pytest.mark.timeout(2400)]

SPANS_SECONDS = 10.0
"""A process writes its spans twice a second."""
QUESTIONS = {
    "How many days of annual leave does a full-time employee get?": "hr/annual-leave",
    "In which staff portal do employees request annual leave?": "hr/annual-leave",
    "Who leads the network desk?": "it/vpn-runbook",
}


@pytest.fixture(scope="module")
def figures(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a short demo wrote: fewer questions than `make demo`, the same steps."""
    path = tmp_path_factory.mktemp("demo") / "figures.json"
    result = mesh.run(
        "demo", "--json", str(path), "--pool", "48", "--held-out", "24", "--seed", "2", timeout=2200
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return json.loads(path.read_text())


def test_every_document_becomes_searchable(figures: Any) -> None:
    assert figures["documents"] == 66
    assert figures["chunks"] > 200


def test_the_promoted_release_answers_the_held_out_questions_better(figures: Any) -> None:
    held_out = figures["held_out"]
    assert held_out["after"] > held_out["before"]
    assert held_out["p_value"] < 0.05
    assert figures["release"]["after"] != figures["release"]["before"]


def test_the_gate_refuses_what_was_learned_from_scrambled_corrections(figures: Any) -> None:
    assert figures["bad_candidate"]["verdict"] == "REJECTED"
    assert figures["bad_candidate"]["reasons"]


def test_drift_and_spending_raise_alerts(figures: Any) -> None:
    assert {"DRIFT", "COST"} <= {alert["kind"] for alert in figures["alerts"]}


def test_the_mesh_still_answers_after_the_demo(figures: Any, mesh: Mesh) -> None:
    status = mesh.json("status")
    assert status["running"]
    assert {p["name"] for p in status["processes"]} >= {"broker", "triton", "inference"}
    answers = [mesh.json("ask", text) for text in QUESTIONS]
    assert {answer["release_id"] for answer in answers} == {figures["release"]["after"]}
    pairs = zip(answers, QUESTIONS.values(), strict=True)
    right = [d in {c["document_id"] for c in answer["citations"]} for answer, d in pairs]
    # One small adapter may refuse or miss; the held-out score above is the judge of quality.
    assert any(right)


def test_smoke_proves_the_running_mesh_and_leaves_nothing_to_train_on(
    figures: Any, mesh: Mesh
) -> None:
    runs = len(mesh.json("runs")["runs"])
    told = mesh.json("smoke", timeout=300)
    assert told["passed"]
    assert list(told["seconds"]) == ["document", "answer", "feedback", "usage"]
    assert len(mesh.json("runs")["runs"]) == runs


def test_feedback_on_an_unknown_answer_is_refused(figures: Any, mesh: Mesh) -> None:
    result = mesh.run("feedback", "ans_nope", "--thumb", "up", "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout)["error"]["reason"] == "ANSWER_NOT_FOUND"


def test_a_broken_document_is_told_in_one_json_document(
    figures: Any, mesh: Mesh, tmp_path: Path
) -> None:
    (tmp_path / "plan.pdf").write_bytes(b"%PDF-1.4 broken")
    result = mesh.run("submit", str(tmp_path / "plan.pdf"), "--json")
    assert result.returncode == 1
    said = json.loads(result.stdout)
    assert said["error"]["reason"] == "DOCUMENTS_REJECTED"
    assert said["documents"][0]["rejected"] == "DOCUMENT_BROKEN"


def test_a_second_mesh_on_taken_ports_is_told_what_to_change(
    figures: Any, mesh: Mesh, tmp_path: Path
) -> None:
    result = Mesh(new_home(tmp_path), mesh.port_base).run("up")
    assert result.returncode == 1
    assert "PORT_IN_USE" in result.stderr
    assert "TIDEMILL_PORT_BASE" in result.stderr


def test_one_trace_leads_from_a_document_event_to_its_vector(figures: Any, mesh: Mesh) -> None:
    submitted = mesh.json("submit", "README.md")
    event_id = submitted["documents"][0]["event_id"]
    wanted = {"tidemill-ingest", "tidemill-embedder", "tidemill-retriever"}
    deadline = time.monotonic() + SPANS_SECONDS
    spans = mesh.json("trace", event_id)["spans"]
    while not wanted <= {span["service"] for span in spans} and time.monotonic() < deadline:
        spans = mesh.json("trace", event_id)["spans"]
    assert wanted <= {span["service"] for span in spans}
    assert {span["trace_id"] for span in spans} == {spans[0]["trace_id"]}


def test_one_trace_leads_from_a_question_through_feedback_to_the_training_run(
    figures: Any, mesh: Mesh
) -> None:
    first = mesh.json("runs")["runs"][-1]["run_id"]
    spans = mesh.json("trace", first)["spans"]
    assert {"tidemill-inference", "tidemill-trainer"} <= {span["service"] for span in spans}
    names = {span["name"] for span in spans}
    assert {"plan training run", "training run"} <= names
    planned = next(span for span in spans if span["name"] == "plan training run")
    others = [trace for trace in planned["links"] if trace != planned["trace_id"]]
    later = mesh.json("trace", others[0])["linked"]
    assert planned["span_id"] in {span["span_id"] for span in later}


def test_state_survives_down_and_up(figures: Any, mesh: Mesh) -> None:
    before = [r["release_id"] for r in mesh.json("releases")["releases"]]
    alerts = len(mesh.json("alerts")["alerts"])
    said = [mesh.json("ask", text)["text"] for text in QUESTIONS]
    assert mesh.json("down")["stopped"]
    assert mesh.json("up", timeout=300)["processes"]
    assert [r["release_id"] for r in mesh.json("releases")["releases"]] == before
    assert len(mesh.json("alerts")["alerts"]) >= alerts
    answers = [mesh.json("ask", text) for text in QUESTIONS]
    assert {answer["release_id"] for answer in answers} == {figures["release"]["after"]}
    assert [answer["text"] for answer in answers] == said
    assert not all(answer["refused"] for answer in answers)
