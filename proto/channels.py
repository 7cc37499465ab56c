"""What a change of the topics breaks for the last release's producers and consumers.

Both sides are AsyncAPI documents as docs/generate.py writes them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from breaking import Break

DOCUMENT = "docs/asyncapi.yaml"
BASELINE = "proto/baseline.asyncapi.yaml"
NEW_TOPIC = "keep the topic and its consumers; what replaces it is a topic beside it"
NEW_VERSION = "leave it as it was; another shape is a new topic, with the next version in its name"

Part = dict[str, Any]


@dataclass(frozen=True)
class Channel:
    """What producers and consumers of one topic rely on.

    headers: schema of each, without its description. max_bytes: of one record.
    """

    message: str
    key: Part
    headers: dict[str, Part]
    required: frozenset[str]
    write_scope: str
    max_bytes: int


def read(path: Path) -> Part:
    return dict(yaml.safe_load(path.read_text()))


def resolve(document: Part, part: Part) -> Part:
    """The part itself, or what it points at in the document."""
    if "$ref" not in part:
        return part
    found: Any = document
    for name in str(part["$ref"]).removeprefix("#/").split("/"):
        found = found[name]
    return dict(found)


def undescribed(part: Part) -> Part:
    return {name: value for name, value in part.items() if name != "description"}


def channels_of(document: Part) -> dict[str, Channel]:
    """By the topic's name."""
    return {
        str(part["address"]): channel_of(document, part) for part in document["channels"].values()
    }


def channel_of(document: Part, part: Part) -> Channel:
    [carried] = part["messages"].values()
    message = resolve(document, carried)
    headers: dict[str, Part] = {}
    required: set[str] = set()
    for schema in (resolve(document, each) for each in message["headers"]["allOf"]):
        required |= set(schema.get("required", ()))
        for name, shape in schema["properties"].items():
            headers[name] = headers.get(name, {}) | undescribed(shape)
    return Channel(
        message=message["x-tidemill-protobuf-message"],
        key=undescribed(message["bindings"]["kafka"]["key"]),
        headers=headers,
        required=frozenset(required),
        write_scope=part.get("x-tidemill-write-scope", ""),
        max_bytes=part["bindings"]["kafka"]["topicConfiguration"]["max.message.bytes"],
    )


def broken_channels(before: Part, now: Part) -> Iterator[Break]:
    """New topics and new optional headers pass."""
    after = channels_of(now)
    for name, old in channels_of(before).items():
        if name not in after:
            yield Break(DOCUMENT, f'topic "{name}" was deleted or renamed', NEW_TOPIC)
            continue
        for what in differences(old, after[name]):
            yield Break(DOCUMENT, f'topic "{name}": {what}', NEW_VERSION)


def differences(old: Channel, new: Channel) -> Iterator[str]:
    if new.message != old.message:
        yield f"its message was {old.message} and is {new.message}"
    if new.key != old.key:
        yield f"its key was {old.key['pattern']} and is {new.key['pattern']}"
    if new.write_scope != old.write_scope:
        yield f"its write scope was {old.write_scope!r} and is {new.write_scope!r}"
    if new.max_bytes < old.max_bytes:
        yield f"its largest record was {old.max_bytes} bytes and is {new.max_bytes}"
    yield from header_differences(old, new)


def header_differences(old: Channel, new: Channel) -> Iterator[str]:
    """Outsiders who write must not need more; readers of the mesh's events must not get less."""
    for name, shape in old.headers.items():
        if new.headers.get(name) != shape:
            yield f"header {name} was deleted or changed"
    for name in sorted(new.required - old.required if old.write_scope else ()):
        yield f"header {name} is required now"
    for name in sorted(old.required - new.required if not old.write_scope else ()):
        yield f"header {name} is no longer on every record"


def breaking_topics(root: Path) -> list[Break]:
    """All breaks of a folder that holds docs/asyncapi.yaml and proto/."""
    before, now = read(root / BASELINE), read(root / DOCUMENT)
    return [*broken_channels(before, now), *unrenewed(before, now)]


def unrenewed(before: Part, now: Part) -> Iterator[Break]:
    """A release is a new version, and what it contains binds every later one."""
    released, version = before["info"]["version"], now["info"]["version"]
    if released != version:
        what = f"the contracts are compared with those of {released}, and the version is {version}"
        yield Break(BASELINE, what, "run `make release-contracts` in the commit of the release")


def renew(root: Path) -> None:
    (root / BASELINE).write_text((root / DOCUMENT).read_text())
