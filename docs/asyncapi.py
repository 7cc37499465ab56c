"""The topics as an AsyncAPI 3 document; python docs/generate.py writes it to docs/asyncapi.yaml."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.message import Message

from tidemill.bus import envelope
from tidemill.bus.kafka import group_of
from tidemill.security.tokens import TENANT_PATTERN
from tidemill.topics import CATALOGUE, Retention, Topic, dead_letter_configs

ROOT = Path(__file__).resolve().parent.parent
BINDING_VERSION = "0.5.0"
PROTOBUF_SCHEMA = "application/vnd.google.protobuf;version=3"
EVERY_SERVICE = "every service"

Part = dict[str, Any]

HEADER = """# Written from tidemill/topics.py by `python docs/generate.py`; never edited.
"""

TEXT = {"type": "string"}
HEADERS: dict[str, Part] = {
    "ce_specversion": TEXT | {"const": "1.0"},
    envelope.EVENT_ID: TEXT
    | {
        "pattern": f"^{envelope.EVENT_ID_PATTERN.pattern}$",
        "description": "Unique within tenant and source; one that comes again is applied once.",
    },
    "ce_source": TEXT | {"description": "For the mesh's own events tidemill/SERVICE."},
    envelope.EVENT_TYPE: TEXT | {"description": "tidemill. and the topic's name."},
    "ce_time": TEXT | {"format": "date-time"},
    envelope.CONTENT_TYPE: TEXT
    | {"enum": [envelope.PROTOBUF, envelope.JSON], "default": envelope.PROTOBUF},
    envelope.TRACEPARENT: TEXT | {"description": "W3C trace context."},
    envelope.SUBJECT: TEXT
    | {"description": "Of recorded feedback: subject of the token that it came with."},
}
TOKEN = TEXT | {
    "description": "Token of the mesh for the audience tidemill.events with the channel's "
    "x-tidemill-write-scope; its tenant is the key's."
}
DEAD_LETTER_HEADERS = {
    envelope.DEAD_LETTER_ID: TEXT,
    envelope.REASON: TEXT | {"description": "Name of an ErrorReason without its prefix."},
    envelope.DETAIL: TEXT | {"description": "Metadata of the reason, a JSON object."},
    envelope.CONSUMER: TEXT | {"description": "Consumer that gave the event up, service/topic."},
    envelope.ORIGIN: TEXT | {"description": "Place of the record, topic/partition/offset."},
    envelope.ORIGIN_TIME: TEXT | {"format": "date-time"},
    envelope.TOKEN_SUBJECT: TEXT
    | {"description": "Subject of the record's token, which stays behind; empty without one."},
}
ALWAYS = [n for n in HEADERS if n not in (envelope.TRACEPARENT, envelope.SUBJECT)]
"""Headers of every event that the mesh itself writes."""

SCHEMAS: dict[str, Part] = {
    "internalHeaders": {"type": "object", "required": ALWAYS, "properties": HEADERS},
    "ingressHeaders": {
        "type": "object",
        "required": [envelope.TOKEN],
        "properties": HEADERS | {envelope.TOKEN: TOKEN},
    },
    "deadLetterHeaders": {
        "type": "object",
        "required": [envelope.EVENT_ID, *DEAD_LETTER_HEADERS],
        "properties": HEADERS | DEAD_LETTER_HEADERS,
    },
}


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def reference(*path: str) -> Part:
    return {"$ref": "#/" + "/".join(path)}


def message_name(topic: Topic[Message]) -> str:
    return str(topic.message.DESCRIPTOR.name)


def letter_name(topic: Topic[Message]) -> str:
    return f"{message_name(topic)}DeadLetter"


def key_schema(topic: Topic[Message]) -> Part:
    """Of the record's key: tenant, slash, aggregate."""
    field = topic.aggregate in topic.message.DESCRIPTOR.fields_by_name
    aggregate = ".+" if field else topic.aggregate
    shown = f"{{{topic.aggregate}}}" if field else topic.aggregate
    return TEXT | {
        "pattern": f"^{TENANT_PATTERN.pattern}/{aggregate}$",
        "maxLength": envelope.MAX_KEY_BYTES,
        "description": f"{{tenant_id}}/{shown}, as UTF-8 of at most {envelope.MAX_KEY_BYTES} bytes",
    }


def payload(topic: Topic[Message]) -> Part:
    file = f"../proto/{topic.message.DESCRIPTOR.file.name}"
    return {"schemaFormat": PROTOBUF_SCHEMA, "schema": {"$ref": file}}


def message(topic: Topic[Message], name: str, summary: str, headers: str) -> Part:
    own_type = {"properties": {envelope.EVENT_TYPE: {"const": topic.type}}}
    return {
        "name": name,
        "summary": summary,
        "contentType": envelope.PROTOBUF,
        "headers": {"allOf": [reference("components", "schemas", headers), own_type]},
        "payload": payload(topic),
        "bindings": {"kafka": {"key": key_schema(topic), "bindingVersion": BINDING_VERSION}},
        "x-tidemill-protobuf-message": topic.message.DESCRIPTOR.full_name,
    }


def messages(topic: Topic[Message], summaries: dict[str, str]) -> Part:
    """The event of a topic, and the event as a dead letter."""
    name, letter = message_name(topic), letter_name(topic)
    headers = "ingressHeaders" if topic.write_scope else "internalHeaders"
    about = f"A {name} that a consumer could not apply, as it was."
    return {
        name: message(topic, name, summaries.get(name, ""), headers),
        letter: message(topic, letter, about, "deadLetterHeaders"),
    }


def configuration(configs: dict[str, str]) -> Part:
    return {name: int(v) if v.lstrip("-").isdigit() else v for name, v in configs.items()}


def channel(name: str, carried: str, partitions: int, configs: dict[str, str]) -> Part:
    kafka = {
        "partitions": partitions,
        "topicConfiguration": configuration(configs),
        "bindingVersion": BINDING_VERSION,
    }
    return {
        "address": name,
        "messages": {carried: reference("components", "messages", carried)},
        "bindings": {"kafka": kafka},
    }


def channels(topic: Topic[Message]) -> Part:
    """A topic and its dead letters."""
    event = channel(topic.name, message_name(topic), topic.partitions, topic.configs())
    event |= {"x-tidemill-owner": topic.owner, "x-tidemill-retention": topic.retention.value}
    if topic.write_scope:
        event["x-tidemill-write-scope"] = topic.write_scope
    dead = channel(topic.dead_letter_name, letter_name(topic), 1, dead_letter_configs())
    dead |= {
        "description": "A record without a value tells what became of a dead letter.",
        "x-tidemill-retention": Retention.DEAD_LETTERS.value,
    }
    return {topic.name: event, topic.dead_letter_name: dead}


def subscriptions() -> dict[str, list[str]]:
    """Services that consume each topic, read from their sources; by the topic's constant."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "services").glob("*/*.py")):
        for constant in re.findall(r"\bsubscribe\(\s*topics\.(\w+)", path.read_text()):
            found.setdefault(constant, set()).add(path.parent.name)
    return {constant: sorted(services) for constant, services in found.items()}


def constant_of(topic: Topic[Message]) -> str:
    """Name of the declaration, which is the topic's own: "documents.chunked.v1" is
    DOCUMENTS_CHUNKED."""
    return topic.name.rpartition(".")[0].replace(".", "_").upper()


def services() -> list[str]:
    return sorted(path.parent.name for path in (ROOT / "services").glob("*/app.py"))


def operation(action: str, service: str, name: str, carried: str) -> tuple[str, Part]:
    body = {
        "action": action,
        "channel": reference("channels", name),
        "messages": [reference("channels", name, "messages", carried)],
        "x-tidemill-service": service,
    }
    return f"{service}.{action}.{name}", body


def operations(topic: Topic[Message], consumers: list[str]) -> Part:
    """The owner sends, each consumer receives and sends what it cannot apply to dead letters."""
    name, carried = topic.name, message_name(topic)
    owners = services() if topic.owner == EVERY_SERVICE else [topic.owner]
    found = dict(operation("send", owner, name, carried) for owner in owners)
    for service in consumers:
        identifier, body = operation("receive", service, name, carried)
        group = TEXT | {"const": group_of(service, name)}
        body["bindings"] = {"kafka": {"groupId": group, "bindingVersion": BINDING_VERSION}}
        found[identifier] = body
        found |= [operation("send", service, topic.dead_letter_name, letter_name(topic))]
    return found


def document(summaries: dict[str, str]) -> Part:
    """summaries: leading comment of each message."""
    merged: dict[str, Part] = {"channels": {}, "operations": {}, "messages": {}}
    consumers = subscriptions()
    for topic in CATALOGUE:
        merged["channels"] |= channels(topic)
        merged["operations"] |= operations(topic, consumers.get(constant_of(topic), []))
        merged["messages"] |= messages(topic, summaries)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tidemill",
            "version": version(),
            "description": "Events of the mesh. docs/events.md explains keys, headers, "
            "retention and evolution.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": envelope.PROTOBUF,
        "servers": {"kafka": SERVER},
        "channels": merged["channels"],
        "operations": merged["operations"],
        "components": {"messages": merged["messages"], "schemas": SCHEMAS},
    }


SERVER: Part = {
    "host": "{bootstrap}",
    "protocol": "kafka",
    "description": "The embedded broker or Apache Kafka.",
    "variables": {
        "bootstrap": {
            "default": "127.0.0.1:7700",
            "description": "TIDEMILL_KAFKA; the default is the embedded broker's address.",
        }
    },
}


class Plain(yaml.SafeDumper):
    """Writes equal parts out instead of pointing at the first with an anchor."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def text(summaries: dict[str, str]) -> str:
    body = yaml.dump(document(summaries), Dumper=Plain, sort_keys=False, width=100)
    return HEADER + body
