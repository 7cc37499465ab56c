"""The check of the contracts refuses what breaks the last release's clients, and nothing else."""

import io
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).parents[3]
API = "proto/tidemill/api"
RETRIEVER = f"{API}/retriever/v1/retriever_service.proto"
TRAINER = f"{API}/trainer/v1/trainer_service.proto"
RUNS = f"{API}/events/v1/runs.proto"
GET_INDEX = r"  // Describes the index of the caller's tenant\.\n  rpc GetIndex[^}]+\}[^}]+\}\n"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the contracts that were released as they are."""
    folder = tmp_path_factory.mktemp("contracts")
    shutil.copytree(ROOT / "proto", folder / "proto")
    shutil.copy(ROOT / "buf.yaml", folder)
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs/asyncapi.yaml", folder / "docs")
    renew(folder)
    return folder


@pytest.fixture
def contracts(released: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(released, tmp_path / "contracts"))


def renew(contracts: Path) -> None:
    command = [sys.executable, str(contracts / "proto/check.py"), "--renew"]
    subprocess.run(command, check=True, timeout=60)


def check(contracts: Path) -> tuple[int, str]:
    command = [sys.executable, str(ROOT / "proto/breaking.py"), str(contracts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def edit(contracts: Path, file: str, pattern: str, replacement: str) -> None:
    path = contracts / file
    text, count = re.subn(pattern, replacement, path.read_text(), count=1)
    assert count == 1, pattern
    path.write_text(text)


# What is changed: (file, pattern, replacement, what the check says).
BREAKS: dict[str, tuple[str, str, str, str]] = {
    "deleted RPC": (RETRIEVER, GET_INDEX, "", '"GetIndex" on service'),
    "renamed RPC": (RETRIEVER, "rpc GetIndex", "rpc ShowIndex", '"GetIndex" on service'),
    "deleted service": (TRAINER, r"(?s)// Shows training runs.*?\n}\n", "", '"TrainerService"'),
    "renamed service": (TRAINER, "service TrainerService", "service Trainer2Service", "deleted"),
    "changed scope": (RETRIEVER, "documents:read", "index:read", "scope of its access rule"),
    "removed scope": (RETRIEVER, r'      scope: "documents:read"\n', "", "and is None"),
    "removed access rule": (
        RETRIEVER, r"GetIndexResponse\) \{[^}]+\}[^}]+\}", "GetIndexResponse);", "scope"
    ),
    "smaller request": (RETRIEVER, "65536", "1024", "max_request_bytes of its access rule"),
    "shorter time": (RETRIEVER, "10000", "9999", "max_duration_ms of its access rule"),
    "changed request type": (
        RETRIEVER, r"GetIndex\(GetIndexRequest", "GetIndex(SearchRequest", "request type"
    ),
    "unary to stream": (RETRIEVER, r"returns \(Search", "returns (stream Search", "streaming"),
    "changed field type": (RUNS, "int32 steps = 11", "int64 steps = 11", "steps"),
    "changed cardinality": (
        RUNS, "repeated string taken_feedback_ids", "string taken_feedback_ids", "cardinality"
    ),
    "deleted field": (RUNS, r"  double loss = 12;\n", "", '"loss"'),
    "deleted and reserved field": (RUNS, "  double loss = 12;", "  reserved 12;", '"loss"'),
    "renamed field": (RUNS, "double loss", "double last_loss", '"loss"'),
    "renumbered field": (RUNS, "double loss = 12", "double loss = 99", '"loss"'),
    "renamed message": (RUNS, r"message TrainedExample", "message Example", "TrainedExample"),
    "deleted enum value": (RUNS, r"  // The run failed.*\n.*\n", "", 'enum value "3"'),
}  # fmt: skip

# Of BREAKS, what needs a second edit to compile.
FOLLOWING = {
    "changed request type": (
        RETRIEVER,
        r"// Request of GetIndex\.\nmessage GetIndexRequest {}\n",
        "",
    ),
    "renamed message": (RUNS, "repeated TrainedExample", "repeated Example"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_breaking_change_is_refused(contracts: Path, name: str) -> None:
    file, pattern, replacement, said = BREAKS[name]
    edit(contracts, file, pattern, replacement)
    if name in FOLLOWING:
        edit(contracts, *FOLLOWING[name])
    code, told = check(contracts)
    assert code == 1
    assert said in told
    assert "proto/" in told
    assert "beside" in told or "put it back" in told


def test_a_deleted_file_is_refused(contracts: Path) -> None:
    (contracts / TRAINER).unlink()
    code, told = check(contracts)
    assert code == 1
    assert "trainer_service.proto" in told


NEW_RPC = """  // Counts chunks.
  rpc CountChunks(CountChunksRequest) returns (CountChunksResponse) {
    option (tidemill.api.common.v1.access) = {scope: "documents:read" max_request_bytes: 1024};
  }
}

// Request of CountChunks.
message CountChunksRequest {}

// Response of CountChunks.
message CountChunksResponse {
  int64 chunks = 1;
}

// A chunk that a search found"""

GROWTH = {
    "field": (RUNS, "int32 planned_steps = 16;", "int32 planned_steps = 16;\n  string note = 17;"),
    "enum value": (
        RUNS, "(RUN_STATE_FAILED = 3;)", r"\1\n  // The run is paused.\n  RUN_STATE_PAUSED = 4;"
    ),
    "RPC and messages": (RETRIEVER, r"\}\n\n// A chunk that a search found", NEW_RPC),
    "larger request": (RETRIEVER, "65536", "131072"),
    "comment": (RUNS, "// The run's adapter is stored.", "// The adapter of the run is stored."),
}  # fmt: skip


@pytest.mark.parametrize("name", GROWTH)
def test_growth_passes(contracts: Path, name: str) -> None:
    edit(contracts, *GROWTH[name])
    assert check(contracts) == (0, "")


def test_what_came_after_a_release_is_bound_by_the_next(contracts: Path) -> None:
    edit(contracts, *GROWTH["field"])
    renew(contracts)
    edit(contracts, RUNS, r"string note = 17", "int64 note = 17")
    code, told = check(contracts)
    assert (code, '"note"' in told) == (1, True)


def git(*arguments: str) -> bytes:
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return done.stdout if done.returncode == 0 else b""


def test_the_baseline_is_what_its_commit_contained(tmp_path: Path) -> None:
    """A baseline that is older than its release would let changes of newer contracts pass."""
    if git("rev-parse", "--is-shallow-repository").strip() != b"false":
        pytest.skip("the history of the baseline is not here")
    commit = git("log", "-1", "--format=%H", "--", "proto/baseline.binpb").decode().strip()
    archive = git("archive", commit, "proto", "buf.yaml")
    with tarfile.open(fileobj=io.BytesIO(archive)) as contracts:
        contracts.extractall(tmp_path, filter="data")
    before = FileDescriptorSet.FromString((tmp_path / "proto/baseline.binpb").read_bytes())
    shutil.copytree(ROOT / "proto", tmp_path / "proto", dirs_exist_ok=True, ignore=only_programs)
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/asyncapi.yaml", tmp_path / "docs")
    renew(tmp_path)
    now = FileDescriptorSet.FromString((tmp_path / "proto/baseline.binpb").read_bytes())
    assert [file.name for file in before.file] == [file.name for file in now.file]
    for old, new in zip(before.file, now.file, strict=True):
        old.ClearField("source_code_info")
        assert old == new, old.name


def only_programs(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if not name.endswith(".py")}
