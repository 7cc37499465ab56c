"""Every outgoing call has a deadline: read from the source, so that a new call site cannot forget
it."""

import ast

from google.protobuf import descriptor_pool

from tests.unit.core.test_rules import TREES
from tidemill.runtime import contract_of
from tidemill.settings import SERVICES

KAFKA_STEPS = {
    "send_and_wait", "getmany", "getone", "end_offsets", "beginning_offsets", "list_topics",
    "create_topics", "describe_cluster", "describe_consumer_groups",
}  # fmt: skip
# What stops waiting by itself, or is bounded by its caller.
BOUNDS = {"asyncio.timeout", "broker_faults", "administering"}
BOUNDED_BY_THEIR_CALLERS = {
    # Under administering's timeout.
    ("tidemill/bus/admin.py", "describe_cluster"),
    # Under is_ready's timeout.
    ("tidemill/cli/probes.py", "list_topics"),
    # getmany returns after its own timeout_ms.
    ("tidemill/cli/demo/alerts.py", "getmany"),
    ("tidemill/bus/kafka.py", "getmany"),
}
TRITON_LOCAL = {"close"}
TRITON_STREAMS = {"stream_infer"}
MILVUS_LOCAL = {"close", "create_schema", "prepare_index_params"}


CALLS = [
    (name, node)
    for name, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.Call)
]


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def keywords(node: ast.Call) -> set[str]:
    return {keyword.arg for keyword in node.keywords if keyword.arg}


def rpc_names() -> set[str]:
    pool = descriptor_pool.Default()
    services = [pool.FindServiceByName(contract_of(name)) for name in SERVICES]
    return {method.name for service in services for method in service.methods} | {"Check", "Watch"}


def test_rpcs_are_called_through_the_one_function_that_wants_a_timeout() -> None:
    """Nobody calls a stub's method itself: it is handed to rpc.call or rpc.stream."""
    found = [
        f"{name}:{node.lineno}"
        for name, node in CALLS
        if isinstance(node.func, ast.Attribute) and node.func.attr in rpc_names()
    ]
    assert found == []
    through = [node for _, node in CALLS if called(node) in {"call", "stream"}]
    assert len(through) > 15, "the rule would find what is there"
    assert all("timeout" in keywords(node) for node in through)


def test_calls_of_the_model_server_have_a_timeout() -> None:
    places = [
        node
        for name, node in CALLS
        if name == "tidemill/modelserver/client.py" and called(node).startswith("self._client.")
    ]
    methods = {
        node.func.attr: keywords(node) for node in places if isinstance(node.func, ast.Attribute)
    }
    assert len(methods) >= 6
    unary = {m: k for m, k in methods.items() if m not in TRITON_LOCAL | TRITON_STREAMS}
    assert {method for method, given in unary.items() if "client_timeout" not in given} == set()
    # A stream's results are awaited one by one, each within a time.
    assert "asyncio.wait_for" in {
        called(node) for name, node in CALLS if name.endswith("server/client.py")
    }


def test_calls_of_the_vector_store_have_a_timeout() -> None:
    places = [
        node
        for name, node in CALLS
        if name == "services/retriever/adapters/vector_store.py"
        and called(node).startswith(("client.", "self._client.", "MilvusClient"))
    ]
    late = {
        called(node)
        for node in places
        if called(node).rpartition(".")[2] not in MILVUS_LOCAL and "timeout" not in keywords(node)
    }
    assert len(places) > 8
    assert late == set()


def bounded_lines(tree: ast.Module) -> set[int]:
    """Lines inside an `async with` that stops waiting by itself."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncWith)
        and any(ast.unparse(i.context_expr).partition("(")[0] in BOUNDS for i in node.items)
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    }


def test_steps_against_a_kafka_broker_are_bounded() -> None:
    bounded = {name: bounded_lines(tree) for name, tree in TREES.items()}
    steps = [
        (name, node)
        for name, node in CALLS
        if isinstance(node.func, ast.Attribute)
        and node.func.attr in KAFKA_STEPS
        and not name.startswith("tidemill/broker/")
        and (name, node.func.attr) not in BOUNDED_BY_THEIR_CALLERS
    ]
    assert len(steps) > 7
    assert [(n, x.lineno) for n, x in steps if x.lineno not in bounded[n]] == []


def test_nobody_leaves_a_broker_without_a_bound() -> None:
    """A producer's stop waits until all is delivered."""
    found = [
        f"{name}:{node.lineno}"
        for name, node in CALLS
        if called(node) in {"producer.stop", "consumer.stop", "self._producer.stop"}
    ]
    assert found == []


def test_what_reads_pages_has_a_timeout() -> None:
    """Of a service's metrics. Another client of HTTP that comes belongs into this file."""
    places = [(name, keywords(node)) for name, node in CALLS if called(node).endswith("urlopen")]
    assert [name for name, given in places if "timeout" in given] == ["tidemill/cli/consumers.py"]
    assert len(places) == 1
    modules = {"http.client", "requests", "httpx", "aiohttp"}
    imported = {
        alias.name
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        node.module or ""
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert imported & modules == set()
