"""Weights, packages, the adapter table and errors, without a server."""

import json
from pathlib import Path

import pytest

from tidemill.modelserver import adapters, install, weights
from tidemill.modelserver.errors import (
    AdapterConflict,
    AdapterNotFound,
    InvalidRequest,
    ModelServerError,
    ModelServerUnavailable,
    from_server,
)
from tidemill.modelserver.packages import InstallFailed, staged
from tidemill.modelserver.server import PortInUse, choose_ports
from tidemill.modelserver.weights import WeightsFailed


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "m"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    weights.write_manifest(folder, "m", "v1", "pypi:m==1")
    return folder


def test_verified_weights_say_name_version_and_source(model: Path) -> None:
    found = weights.verified(model)
    assert (found.name, found.version, found.source) == ("m", "v1", "pypi:m==1")


def test_a_changed_file_is_found(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"tampered")
    with pytest.raises(WeightsFailed) as caught:
        weights.verified(model)
    assert caught.value.reason == "WEIGHTS_DAMAGED"


def test_weights_that_this_user_may_not_read_are_named(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> str:
        raise PermissionError(path)  # the tests may run as root, who reads everything

    monkeypatch.setattr(weights, "file_hash", refused)
    with pytest.raises(WeightsFailed, match=r"config\.json") as caught:
        weights.verified(model)
    assert caught.value.reason == "WEIGHTS_UNREADABLE"


def test_a_python_that_was_moved_after_its_build_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    facts = {"INSTSONAME": "libpython3.x.so", "LIBDIR": "/where/it/was/built/lib"}
    monkeypatch.setattr(install.sysconfig, "get_config_var", facts.get)
    monkeypatch.setattr(install.sys, "base_prefix", str(tmp_path))
    with pytest.raises(InstallFailed, match="shared"):
        install.shared_python_folder()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libpython3.x.so").touch()
    assert install.shared_python_folder() == tmp_path / "lib"


def test_missing_weights_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(WeightsFailed, match=r"tidemill\.modelserver\.install") as caught:
        weights.llm(tmp_path, {})
    assert caught.value.reason == "WEIGHTS_MISSING"


def test_a_setting_replaces_the_llm_by_a_folder_of_the_users(model: Path) -> None:
    found = weights.llm(Path("/nowhere"), {weights.LLM_SETTING: str(model)})
    assert found.folder == model
    again = weights.external(model)
    assert again.version == found.version
    (model / "config.json").write_text('{"x": 1}')
    assert weights.external(model).version != found.version


def test_a_setting_that_names_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsFailed):
        weights.llm(tmp_path, {weights.LLM_SETTING: str(tmp_path)})


def test_an_interrupted_set_up_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "models" / "m"

    def interrupted() -> None:
        with staged(target) as folder:
            (folder / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(target.parent.iterdir())


def test_a_finished_set_up_replaces_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "m"
    target.mkdir()
    (target / "old").write_text("x")
    with staged(target) as folder:
        (folder / "new").write_text("y")
    assert [path.name for path in target.iterdir()] == ["new"]


def adapter(folder: Path, content: str) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_text(content)
    return folder


def test_adapters_are_appended_in_order_and_once(tmp_path: Path) -> None:
    first, second = adapter(tmp_path / "1", "one"), adapter(tmp_path / "2", "two")
    assert adapters.register(tmp_path, "b", first)
    assert adapters.register(tmp_path, "a", second)
    assert not adapters.register(tmp_path, "b", first)
    table = json.loads((tmp_path / adapters.TABLE).read_text())
    assert list(table.items()) == [("b", str(first)), ("a", str(second))]


def test_the_same_content_elsewhere_is_the_same_adapter(tmp_path: Path) -> None:
    adapters.register(tmp_path, "a", adapter(tmp_path / "1", "one"))
    assert not adapters.register(tmp_path, "a", adapter(tmp_path / "2", "one"))
    with pytest.raises(AdapterConflict):
        adapters.register(tmp_path, "a", adapter(tmp_path / "3", "three"))


def test_a_folder_without_adapter_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterNotFound, match="ADAPTER_FILES_MISSING"):
        adapters.register(tmp_path, "a", tmp_path)
    assert adapters.read(tmp_path) == {}


@pytest.mark.parametrize(
    ("code", "message", "kind", "reason"),
    [
        ("INTERNAL", "LoRA x is not supported", AdapterNotFound, "ADAPTER_NOT_FOUND"),
        (
            "INTERNAL",
            "Unexpected keyword argument 'x'",
            InvalidRequest,
            "UNKNOWN_SAMPLING_PARAMETER",
        ),
        ("UNAVAILABLE", "Exceeds maximum queue size", ModelServerUnavailable, "MODEL_OVERLOADED"),
        (
            "INTERNAL",
            "Stub process 'llm_0_0' is not healthy.",
            ModelServerUnavailable,
            "MODEL_CRASHED",
        ),
        ("INTERNAL", "temperature must be non-negative", InvalidRequest, "INVALID_REQUEST"),
        ("INTERNAL", "out of memory", ModelServerUnavailable, "MODEL_FAILED"),
        ("UNAVAILABLE", "connection refused", ModelServerUnavailable, "MODEL_SERVER_UNAVAILABLE"),
        ("NOT_FOUND", "unknown", ModelServerUnavailable, "MODEL_NOT_LOADED"),
    ],
)
def test_server_errors_get_our_names_and_lose_their_words(
    code: str, message: str, kind: type[ModelServerError], reason: str
) -> None:
    error = from_server(code, message)
    assert type(error) is kind
    assert str(error) == error.reason == reason


def test_ports_are_chosen_free_and_a_taken_one_is_named() -> None:
    import socket

    ports = choose_ports(0, 0, 0)
    assert len({ports.grpc, ports.http, ports.metrics}) == 3
    with (
        socket.create_server(("127.0.0.1", 0)) as held,
        pytest.raises(PortInUse, match=str(held.getsockname()[1])),
    ):
        choose_ports(held.getsockname()[1], 0, 0)
