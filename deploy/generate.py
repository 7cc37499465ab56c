"""Write deploy/settings.env, every setting of every process: python -m deploy.generate"""

import ast
import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic_settings import BaseSettings

from tidemill.modelserver.settings import VARIABLES
from tidemill.settings import SERVICES, MeshSettings

FILE = Path(__file__).with_name("settings.env")
WIDTH = 98
HEAD = """\
# Every setting, with its default. Written from the code by `python -m deploy.generate`.
# docker compose gives this file to each service: take the `#` from a line and change its value.
# What docker-compose.yaml sets itself (addresses, keys, TLS) is decided there.
"""


def settings_of(service: str) -> type[BaseSettings] | None:
    """The one settings class of a service's module, if it has any."""
    module = importlib.import_module(f"services.{service}.settings")
    classes = [c for c in vars(module).values() if inspect.isclass(c)]
    return next((c for c in classes if issubclass(c, BaseSettings) and c is not BaseSettings), None)


def lines_of(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """A comment and a line for each setting; nested ones carry their group's name."""
    texts = docstrings(model)
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from lines_of(type(default), f"{prefix}{name.upper()}_")
        else:
            yield from described(texts.get(name, ""))
            yield f"#{prefix}{name.upper()}={shown(default)}"


def described(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")


def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """What the string after an attribute says, inherited ones included."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if issubclass(each, BaseModel) and each.__module__.startswith(("tidemill", "services")):
            found |= own_docstrings(each)
    return found


def own_docstrings(model: type[BaseModel]) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: " ".join(str(text.value.value).split())
        for field, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def shown(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def text() -> str:
    """The whole file."""
    parts = [HEAD, "\n# --- all processes\n", "\n".join(lines_of(MeshSettings, "TIDEMILL_"))]
    for service in SERVICES:
        found = settings_of(service)
        if found is not None:
            prefix = str(found.model_config["env_prefix"])
            parts += [f"\n\n# --- {service}\n", "\n".join(lines_of(found, prefix))]
    parts.append("\n\n# --- the model server\n")
    parts += [f"{line}\n" for v in VARIABLES for line in (*described(v.meaning), f"#{v.name}=")]
    return "".join(parts)


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        stale = not FILE.exists() or FILE.read_text() != text()
        sys.stderr.write(f"{FILE.name} is stale; run python -m deploy.generate\n" if stale else "")
        return int(stale)
    FILE.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
