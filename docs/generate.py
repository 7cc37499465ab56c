"""Write docs/events.md, asyncapi.yaml and telemetry.md from the code: python docs/generate.py"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncapi
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tidemill.telemetry.catalogue import METRICS, Outcome
from tidemill.topics import CATALOGUE, DAY_MS, Retention, Topic

ROOT = Path(__file__).resolve().parent.parent

EVENTS = """# Events

Every topic of the mesh, written from `tidemill/topics.py` by `python docs/generate.py`.
`tidemill topics` creates them; services create what is missing when they connect. The same for programs, with
headers, key schemas, consumers and Kafka's settings: [asyncapi.yaml](asyncapi.yaml) (AsyncAPI 3).

A record's key is `tenant/aggregate`: one aggregate's events keep their order. Its value is protobuf, or
proto3 JSON when the header `content-type` is `application/json`.

A contract grows within `v1`. On topics that only their owner writes to, consumers keep and ignore fields and enum
values that they do not know: services of two releases run side by side during an upgrade. On topics that producers
outside the mesh write to, a message with a field that the contract does not name is dead-lettered, since a misspelt
field would be dropped silently.

What outsiders submit and what the mesh records are different topics: feedback is submitted to `feedback.submitted.v1`,
inference checks and masks it as `RecordFeedback` does, and records it on `feedback.recorded.v1`. For one release
inference also takes what outsiders still write to `feedback.recorded.v1`, as a submission; only its own records are
facts to the others. `GetSubmission` of `IngestService` (documents) and `InferenceService` (feedback) tells the tenant
that wrote an event what became of it, for 30 days: received and tried again, accepted, rejected or dead-lettered, and
why. An event whose token was refused is nobody's, so nobody can ask for it; it lies among the dead letters.

| header | meaning |
|---|---|
| `ce_id` | the event's id, 1-200 visible ASCII characters, unique within the tenant and `ce_source`; sending it again is harmless |
| `ce_type` | `tidemill.` and the topic's name; another type is dead-lettered |
| `ce_source`, `ce_time`, `ce_specversion` | CloudEvents 1.0, binary mode |
| `traceparent` | W3C trace context; the consumer's spans continue it |
| `tidemill-subject` | on `feedback.recorded.v1`: the subject of the token that the feedback came with |
| `content-type` | `application/protobuf` (default) or `application/json` |
| `tidemill-token` | only on topics that producers outside the mesh write to: a token for `tidemill.events` with the topic's scope; its tenant must be the key's. It is judged by the time that the broker stamped |

A dead letter keeps the record's key, value and headers without the token, and adds `tidemill-reason`,
`tidemill-detail`, `tidemill-consumer`, `tidemill-origin` (topic/partition/offset), `tidemill-origin-time`,
`tidemill-token-subject` (the verified sender's, under which a replay is sent) and `tidemill-dead-letter-id`. Dead letters stay for {days} days. What is
dead-lettered, and what to do about it: [dead letters](dead-letters.md). Why: [decision 1](decisions/0001-delivery.md).

Topics belong to one of three classes of retention: facts are kept for ever, since every store is rebuilt from
them; commands of outsiders, which hold their text unmasked, are kept for 7 days, and no rebuild needs them (the
original bytes of a live document lie once, in the [artifact store](artifacts.md)); dead letters are kept for
{days} days. A topic that is there already keeps its own retention: [upgrades](operations.md#upgrades).

| topic | message | key | owner | partitions | kept | written by |
|---|---|---|---|---|---|---|
"""

TELEMETRY = """# Telemetry

Written from `tidemill/telemetry/catalogue.py` by `python docs/generate.py`.

## Metrics
Each service serves Prometheus metrics on `http://127.0.0.1:<port base + 30..36>/metrics`; dots become underscores
there, counters end in `_total` and durations in `_seconds`,
with buckets from 5 ms to 120 s. No label holds a user, an id or a text, and of these
metrics none holds a tenant.

| metric | kind | unit | labels | meaning |
|---|---|---|---|---|
"""

TRACES = """
`consumer` is `service/topic`; `reason` and `code` are error reasons of the contracts; `method` is `Service/Method`.
`outcome` is one of:

{outcomes}

Inference adds OpenTelemetry's `gen_ai.client.token.usage`, `gen_ai.server.request.duration` and
`gen_ai.server.time_to_first_token`, trainer `tidemill_trainer_feedback`. Monitor adds, by tenant, `tidemill.answers`,
`tidemill.tokens`, `tidemill.cost.micros`, `tidemill.answer.duration`, `tidemill.thumbs`, `tidemill.alerts`,
`tidemill.drift.effect` and `tidemill.drift.p_value`; the first tenants by name, the rest as `other`
(`TIDEMILL_MONITOR_MAX_TENANT_LABELS`). Dashboards and alert rules on all of these are in `deploy/grafana` and
`deploy/prometheus`; `make deploy-check` compares them with the code.

## Traces
W3C trace context travels in gRPC metadata and in the header `traceparent` of each event. It is taken when an event
is written into the outbox, so the trace goes on however late the event leaves. Spans go to
`<home>/<service>/traces.jsonl` (the newest 64 MiB and the file before it), or to a collector when
`OTEL_EXPORTER_OTLP_ENDPOINT` is set.

## Logs
JSON lines on stderr: `event`, `level`, `timestamp`, `service`, and within a span `trace_id` and `span_id`. An
exception is logged by its type and the places of its stack, a library's line by its template: what they say may quote
a document, a question or a token. `tests/integration/core/test_process.py` holds every path to that.
"""


def retention(topic: Topic[Message]) -> str:
    kept = topic.retention.milliseconds
    period = "for ever" if kept < 0 else f"{kept // DAY_MS} days"
    return f"{period} ({topic.retention.value})"


def key_of(topic: Topic[Message]) -> str:
    field = topic.aggregate in topic.message.DESCRIPTOR.fields_by_name
    return f"tenant/{{{topic.aggregate}}}" if field else f"tenant/{topic.aggregate}"


def writer_of(topic: Topic[Message]) -> str:
    if not topic.write_scope:
        return "the owner"
    outside = f"outside, scope `{topic.write_scope}`"
    return f"the owner; for one release {outside}, as submissions" if topic.takes_both else outside


def topic_row(topic: Topic[Message]) -> str:
    writer = writer_of(topic)
    name = topic.message.DESCRIPTOR.name
    return (
        f"| `{topic.name}` | [{name}](#{name.lower()}) | `{key_of(topic)}` | {topic.owner} "
        f"| {topic.partitions} "
        f"| {retention(topic)} | {writer} |\n"
    )


def comments() -> dict[str, str]:
    """Leading comment of each message of the event contracts."""
    found: dict[str, str] = {}
    for file in sorted((ROOT / "proto/tidemill/api/events/v1").glob("*.proto")):
        for block, name in re.findall(r"((?:^//.*\n)+)^message (\w+)", file.read_text(), re.M):
            found[name] = " ".join(line.lstrip("/ ") for line in block.splitlines())
    return found


def type_of(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        name = field.message_type.name
    elif field.enum_type is not None:
        name = field.enum_type.name
    else:
        name = FIELD_TYPES[field.type]
    return f"repeated {name}" if field.is_repeated else name


FIELD_TYPES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}


def message_part(descriptor: Descriptor, comment: str) -> Iterator[str]:
    yield f"\n### {descriptor.name}\n{comment}\n\n"
    fields = ", ".join(f"`{field.name}` {type_of(field)}" for field in descriptor.fields)
    yield f"Fields: {fields}.\n"


def events() -> str:
    days = Retention.DEAD_LETTERS.milliseconds // DAY_MS
    parts = [
        EVENTS.format(days=days),
        *(topic_row(topic) for topic in CATALOGUE),
        "\n## Messages\n",
    ]
    texts = comments()
    for topic in CATALOGUE:
        descriptor = topic.message.DESCRIPTOR
        parts += message_part(descriptor, texts.get(descriptor.name, ""))
    return "".join(parts)


MEANINGS = {
    Outcome.APPLIED: "effects, inbox row and outbox rows committed",
    Outcome.DUPLICATE: "done by an earlier delivery",
    Outcome.DEAD_LETTERED: "written as a dead letter",
    Outcome.HELD: "handed back to the broker: storage is down or the service stops",
    Outcome.SKIPPED: "a replay that is meant for another consumer",
}


def telemetry() -> str:
    rows = [
        f"| `{m.name}` | {m.kind} | {m.unit} | {', '.join(m.labels) or '-'} | {m.meaning} |\n"
        for m in METRICS
    ]
    outcomes = "\n".join(f"- `{outcome}`: {MEANINGS[outcome]}" for outcome in Outcome)
    return TELEMETRY + "".join(rows) + TRACES.format(outcomes=outcomes)


def documents() -> dict[str, str]:
    """Text of each document, by its name."""
    return {
        "events.md": events(),
        "asyncapi.yaml": asyncapi.text(comments()),
        "telemetry.md": telemetry(),
    }


def stale() -> list[str]:
    """Names of the documents that do not say what the code says."""
    folder = ROOT / "docs"
    return [
        name
        for name, text in documents().items()
        if not (folder / name).exists() or (folder / name).read_text() != text
    ]


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        names = stale()
        sys.stderr.writelines(f"docs/{name} is stale; run docs/generate.py\n" for name in names)
        return 1 if names else 0
    for name, text in documents().items():
        (ROOT / "docs" / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
