"""House rules that no linter knows, read from the source of the shared package and services."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Rule = Callable[[str, ast.Module], Iterator[str]]

ROOT = Path(__file__).parents[3]
FILES = sorted(
    path
    for folder in ("tidemill", "services")
    for path in (ROOT / folder).rglob("*.py")
    if "api" not in path.relative_to(ROOT).parts[1:2]
)
MAX_FUNCTION_LINES = 40
MAX_FILE_LINES = 400
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
# What may run at import: values that cost nothing and open nothing.
HARMLESS = {
    "get_logger", "TypeVar", "ParamSpec", "NewType", "ContextVar", "compile", "frozenset", "tuple",
    "Topic", "Metric", "timedelta", "Path", "UUID", "Struct", "namedtuple", "Typer", "Lock",
    "mapped_column", "TraceContextTextMapPropagator", "TraceFlags", "signature", "MappingProxyType",
    "dict", "set", "range", "len", "max", "min", "sum", "join", "cast", "field", "Console",
    "str", "int", "bytes", "enumerate", "findall", "maketrans", "resolve",
    # SQL statements, put together once and sent by nobody yet.
    "select", "insert", "update", "delete", "bindparam", "where", "values", "limit", "order_by",
    "in_", "not_in", "length", "count", "select_from", "group_by", "returning", "label", "and_",
    "or_", "join_from", "outerjoin", "desc", "asc", "coalesce", "tuple_", "on_conflict_do_update",
    "on_conflict_do_nothing", "is_", "is_not", "globals", "isinstance",
    "text", "object", "literal", "fromkeys", "items", "_int", "_long", "_choice",
    "columns", "bindparams", "with_for_update",
}  # fmt: skip


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


TREES = {name_of(path): ast.parse(path.read_text()) for path in FILES}


def long_functions(name: str, tree: ast.Module) -> Iterator[str]:
    if "/migrations/" in name:  # a list of tables, and no more readable in pieces
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            yield from [f"{name}::{node.name}"] if length > MAX_FUNCTION_LINES else []


def calls_at_import(name: str, tree: ast.Module) -> Iterator[str]:
    """Calls in the module's own statements: not in functions, classes or under __main__."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr) and node.value is not None:
            for call in (n for n in ast.walk(node.value) if isinstance(n, ast.Call)):
                called = ast.unparse(call.func).rpartition(".")[2]
                # A class is made as a value, in the way of a frozen dataclass.
                if called not in HARMLESS and not called[:1].isupper():
                    yield f"{name}:{called}"


def prints(name: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield f"{name}:print"


def broken(rule: Rule) -> list[str]:
    return [place for name, tree in TREES.items() for place in rule(name, tree)]


def test_no_function_is_longer_than_a_screen() -> None:
    assert broken(long_functions) == []


def test_no_file_is_a_drawer_that_everything_falls_into() -> None:
    sizes = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert {n: s for n, s in sizes.items() if s > MAX_FILE_LINES} == {}


def test_names_say_what_is_inside() -> None:
    assert [name_of(path) for path in FILES if VAGUE & {path.stem, path.parent.name}] == []


def test_every_file_begins_with_a_sentence() -> None:
    assert [name for name, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_nothing_happens_at_import() -> None:
    assert broken(calls_at_import) == []


def test_only_the_command_line_prints() -> None:
    assert [place for place in broken(prints) if "/cli/" not in place] == []


BODY = "\n".join("    x = 1" for _ in range(MAX_FUNCTION_LINES))


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (long_functions, f"def long():\n{BODY}\n"),
        (calls_at_import, "engine = create_engine('x')\n"),
        (calls_at_import, "start()\n"),
        (prints, "def f():\n    print('x')\n"),
    ],
)
def test_each_rule_sees_what_it_looks_for(rule: Rule, source: str) -> None:
    assert list(rule("file.py", ast.parse(source)))
