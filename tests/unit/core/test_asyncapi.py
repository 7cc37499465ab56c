"""The published description of the topics says what is on them, and may not take anything back."""

import copy
import importlib
import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidemill.bus.dead_letters.records import dead_letter
from tidemill.bus.envelope import TOKEN, Record, event_headers, split_key
from tidemill.faults import Fault, Reason
from tidemill.topics import CATALOGUE, DOCUMENTS_CHUNKED, DOCUMENTS_SUBMITTED

ROOT = Path(__file__).parents[3]
SCHEMA = os.environ.get("TIDEMILL_ASYNCAPI_SCHEMA", "")
NOW = datetime(2030, 1, 1, tzinfo=UTC)
Document = dict[str, Any]


@pytest.fixture(scope="module")
def published() -> Document:
    return dict(yaml.safe_load((ROOT / "docs/asyncapi.yaml").read_text()))


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "proto")
    return importlib.import_module("channels")


def parts_of(node: Any) -> Iterator[Document]:
    if isinstance(node, dict):
        yield node
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from parts_of(each)


def test_every_reference_leads_somewhere(published: Document, comparison: Any) -> None:
    pointers = [part["$ref"] for part in parts_of(published) if "$ref" in part]
    assert len(pointers) > 100
    for pointer in pointers:
        if pointer.startswith("#"):
            assert comparison.resolve(published, {"$ref": pointer})
        else:
            assert (ROOT / "docs" / pointer).is_file()


def test_every_topic_and_its_dead_letters_are_channels(published: Document) -> None:
    names = {name for t in CATALOGUE for name in (t.name, t.dead_letter_name)}
    assert set(published["channels"]) == names


def test_every_service_is_an_owner_or_a_consumer(published: Document) -> None:
    services = {path.parent.name for path in (ROOT / "services").glob("*/app.py")}
    found = {(o["action"], o["x-tidemill-service"]) for o in published["operations"].values()}
    assert found == {(action, service) for action in ("send", "receive") for service in services}


@pytest.mark.parametrize("topic", CATALOGUE, ids=lambda topic: topic.name)
def test_records_have_the_headers_that_are_promised(
    topic: Any, published: Document, comparison: Any
) -> None:
    found = comparison.channels_of(published)
    event, letters = found[topic.name], found[topic.dead_letter_name]
    headers = event_headers(topic, "id", "test", NOW)
    sent = headers | ({TOKEN: "token"} if topic.write_scope else {})
    assert event.required <= set(sent) <= set(event.headers)
    assert event.headers["ce_type"]["const"] == headers["ce_type"]
    record = Record(topic.name, 0, 7, b"acme/doc", b"", sent, NOW)
    values = dead_letter(record, "service/topic", Fault(Reason.INTERNAL), "", "producer")
    dead = json.loads(str(values["headers"]))
    assert letters.required <= set(dead) <= set(letters.headers)
    assert (letters.message, letters.key) == (event.message, event.key)


@pytest.mark.parametrize(
    "key", ["acme/doc", "acme/folder/doc", "acme/größe", "Acme/doc", "acme/", "/doc", "acme"]
)
def test_the_key_pattern_takes_what_consumers_take(
    key: str, published: Document, comparison: Any
) -> None:
    pattern = comparison.channels_of(published)[DOCUMENTS_SUBMITTED.name].key["pattern"]
    try:
        split_key(key.encode())
        taken = True
    except Fault:
        taken = False
    assert bool(re.fullmatch(pattern, key)) is taken


def test_topics_and_their_keys_are_named_by_their_declarations() -> None:
    """docs/asyncapi.py finds a topic's consumers by the name of its constant."""
    topics = importlib.import_module("tidemill.topics")
    for topic in CATALOGUE:
        constant = topic.name.removesuffix(".v1").replace(".", "_").upper()
        assert getattr(topics, constant) is topic


def event_of(document: Document, name: str) -> Document:
    return dict(document["components"]["messages"])[name]  # type: ignore[no-any-return]


def delete_topic(document: Document) -> None:
    del document["channels"][DOCUMENTS_CHUNKED.name]


def rename_topic(document: Document) -> None:
    document["channels"][DOCUMENTS_CHUNKED.name]["address"] = "documents.cut.v1"


def change_message(document: Document) -> None:
    event_of(document, "DocumentChunked")["x-tidemill-protobuf-message"] = "other.Message"


def change_key(document: Document) -> None:
    event_of(document, "DocumentChunked")["bindings"]["kafka"]["key"]["pattern"] = "^.+$"


def require_header(document: Document) -> None:
    document["components"]["schemas"]["ingressHeaders"]["required"].append("traceparent")


def drop_promise(document: Document) -> None:
    document["components"]["schemas"]["internalHeaders"]["required"].remove("ce_time")


def delete_header(document: Document) -> None:
    del document["components"]["schemas"]["internalHeaders"]["properties"]["traceparent"]


def change_scope(document: Document) -> None:
    document["channels"][DOCUMENTS_SUBMITTED.name]["x-tidemill-write-scope"] = "documents:admin"


def close_topic(document: Document) -> None:
    del document["channels"][DOCUMENTS_SUBMITTED.name]["x-tidemill-write-scope"]


def shrink_records(document: Document) -> None:
    kafka = document["channels"][DOCUMENTS_SUBMITTED.name]["bindings"]["kafka"]
    kafka["topicConfiguration"]["max.message.bytes"] = 1024


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (delete_topic, "deleted or renamed"),
        (rename_topic, "deleted or renamed"),
        (change_message, "its message was"),
        (change_key, "its key was"),
        (require_header, "header traceparent is required now"),
        (drop_promise, "header ce_time is no longer on every record"),
        (delete_header, "header traceparent was deleted or changed"),
        (change_scope, "its write scope was 'documents:write' and is 'documents:admin'"),
        (close_topic, "its write scope was"),
        (shrink_records, "its largest record was"),
    ],
)
def test_what_breaks_producers_or_consumers_is_refused(
    change: Callable[[Document], None], said: str, published: Document, comparison: Any
) -> None:
    changed = copy.deepcopy(published)
    change(changed)
    found = [str(each) for each in comparison.broken_channels(published, changed)]
    assert any(said in each for each in found)
    assert list(comparison.broken_channels(published, published)) == []


def test_new_topics_headers_and_partitions_pass(published: Document, comparison: Any) -> None:
    grown = copy.deepcopy(published)
    grown["channels"]["new.v1"] = copy.deepcopy(grown["channels"][DOCUMENTS_CHUNKED.name])
    grown["channels"]["new.v1"]["address"] = "new.v1"
    schemas = grown["components"]["schemas"]
    for name in ("internalHeaders", "ingressHeaders"):
        schemas[name]["properties"]["x-new"] = {"type": "string"}
    schemas["internalHeaders"]["required"].append("x-new")
    grown["channels"][DOCUMENTS_CHUNKED.name]["bindings"]["kafka"]["partitions"] = 12
    assert list(comparison.broken_channels(published, grown)) == []


def test_a_new_version_needs_the_contracts_of_its_release(
    published: Document, comparison: Any
) -> None:
    later = published | {"info": published["info"] | {"version": "9.9.9"}}
    [found] = comparison.unrenewed(published, later)
    assert "make release-contracts" in str(found)


@pytest.mark.skipif(
    not SCHEMA,
    reason="TIDEMILL_ASYNCAPI_SCHEMA names no schemas/3.0.0.json of npm's @asyncapi/specs",
)
def test_the_document_is_asyncapi(published: Document) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(published, json.loads(Path(SCHEMA).read_text()))
