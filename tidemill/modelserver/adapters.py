"""The table of LoRA adapters that the model server reads: append-only, written atomically."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidemill.modelserver.errors import AdapterConflict, AdapterNotFound
from tidemill.modelserver.weights import file_hash

TABLE = Path("llm/1/multi_lora.json")
FILES = ("adapter_config.json", "adapter_model.safetensors")


def register(repository: Path, name: str, folder: Path) -> bool:
    """Adds an adapter to a model repository's table; False if it was there already.

    Raises AdapterConflict when the name stands for other content, AdapterNotFound when the
    folder holds no PEFT adapter.
    """
    folder = folder.resolve()
    content = _content(folder)
    path = repository / TABLE
    with _locked(path):
        table = read(repository)
        if name in table:
            if Path(table[name]) != folder and _content(Path(table[name])) != content:
                raise AdapterConflict("ADAPTER_NAME_TAKEN")
            return False
        _write(path, table | {name: str(folder)})
    return True


def read(repository: Path) -> dict[str, str]:
    """Adapter folders by name, in the order they were added."""
    path = repository / TABLE
    table: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return table


def _content(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(file_hash(folder / name) for name in FILES)
    except OSError as error:
        raise AdapterNotFound("ADAPTER_FILES_MISSING") from error


def _write(path: Path, table: dict[str, str]) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".multi_lora-")
    with os.fdopen(descriptor, "w") as file:
        json.dump(table, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
