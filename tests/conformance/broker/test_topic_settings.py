"""Every setting of topics that Apache Kafka 4.1 knows, taken, refused and shown as it does."""

from typing import Any

import pytest

from tests.conformance.broker.wire import Wire

CREATE, DESCRIBE, OK, INVALID_CONFIG, INVALID_REQUEST = 19, 32, 0, 40, 42
TOPIC, BROKER, SET_BY_TOPIC = 2, 4, 1

TAKEN = {
    "cleanup.policy": ("delete, compact", ""),
    "compression.gzip.level": ("-1", "9"),
    "compression.lz4.level": ("17",),
    "compression.type": ("lz4", "uncompressed", "zstd"),
    "compression.zstd.level": ("22", "-131072"),
    "file.delete.delay.ms": ("0",),
    "flush.messages": ("1",),
    "flush.ms": ("0",),
    "follower.replication.throttled.replicas": ("*",),
    "index.interval.bytes": ("0",),
    "leader.replication.throttled.replicas": ("0:1,1:1",),
    "local.retention.bytes": ("-2",),
    "local.retention.ms": ("100",),
    "message.timestamp.after.max.ms": ("0",),
    "message.timestamp.before.max.ms": ("0",),
    "min.insync.replicas": ("2",),
    "preallocate": ("true", "FALSE"),
    "remote.log.copy.disable": ("true",),
    "remote.log.delete.on.disable": ("true",),
    "remote.storage.enable": ("false",),
    "retention.ms": (" 5 ", "+5"),
    "segment.bytes": ("1048576",),
    "segment.index.bytes": ("4",),
    "segment.jitter.ms": ("0",),
    "unclean.leader.election.enable": ("true",),
}
REFUSED = {
    "cleanup.policy": ("compact,shred",),
    "compression.gzip.level": ("0", "10"),
    "compression.lz4.level": ("0", "18"),
    "compression.type": ("LZ4", "none"),
    "compression.zstd.level": ("23",),
    "flush.messages": ("0",),
    "flush.ms": ("-1",),
    "follower.replication.throttled.replicas": ("none",),
    "local.retention.bytes": ("-3",),
    "max.message.bytes": ("2147483648",),
    "message.downconversion.enable": ("true",),
    "message.timestamp.type": ("createtime",),
    "min.cleanable.dirty.ratio": ("1.1", "nan"),
    "min.insync.replicas": ("0",),
    "preallocate": ("yes",),
    "remote.storage.enable": ("true",),
    "retention.ms": ("-2", "1_000", "", None),
    "segment.bytes": ("20000", "1048575", "1e6"),
    "segment.index.bytes": ("3",),
    "unclean.leader.election.enable": ("1",),
}


@pytest.fixture
async def wire(kafka: Any) -> Wire:
    return await Wire.open(kafka)


async def _create(wire: Wire, name: str, version: int = 4, **settings: str | None) -> Any:
    configs = [{"name": key, "value": value} for key, value in settings.items()]
    topic = {"name": name, "num_partitions": 1, "replication_factor": 1, "configs": configs}
    return (await wire.ask(CREATE, version, topics=[topic], timeout=5_000)).topics[0]


async def _described(wire: Wire, kind: int, name: str, version: int = 4) -> Any:
    resource = {"resource_type": kind, "resource_name": name}
    return (await wire.ask(DESCRIBE, version, resources=[resource])).results[0]


@pytest.mark.parametrize("name", TAKEN)
async def test_a_setting_is_taken_kept_and_shown(kafka: Any, wire: Wire, name: str) -> None:
    for value in TAKEN[name]:
        topic = kafka.name("topic")
        created = await _create(wire, topic, **{name: value})
        assert (created.error_code, created.error_message) == (OK, None), value
        rows: dict[str, Any] = {}

        async def is_shown(topic: str = topic, rows: dict[str, Any] = rows) -> bool:
            answer = await _described(wire, TOPIC, topic)
            rows.update({row.name: row for row in answer.configs})
            return bool(rows)

        await kafka.until(is_shown)
        shown = value.replace(" ", "").removeprefix("+")
        shown = shown.lower() if name == "preallocate" else shown
        assert (rows[name].value, rows[name].config_source) == (shown, SET_BY_TOPIC)


@pytest.mark.parametrize("name", REFUSED)
async def test_a_value_that_cannot_be_is_refused(kafka: Any, wire: Wire, name: str) -> None:
    for value in REFUSED[name]:
        created = await _create(wire, kafka.name("topic"), **{name: value})
        assert created.error_code == INVALID_CONFIG, value


async def test_full_segments_for_tests_have_kafkas_own_door(kafka: Any, wire: Wire) -> None:
    created = await _create(wire, kafka.name("topic"), **{"internal.segment.bytes": "20000"})
    assert created.error_code == OK


async def test_create_topics_tells_partitions_and_settings(kafka: Any, wire: Wire) -> None:
    created = await _create(wire, kafka.name("topic"), 5, **{"retention.ms": "7"})
    assert (created.num_partitions, created.replication_factor) == (1, 1)
    rows = {row.name: (row.value, row.config_source) for row in created.configs}
    assert rows["retention.ms"] == ("7", SET_BY_TOPIC)
    assert set(TAKEN) <= set(rows)
    assert "internal.segment.bytes" not in rows


async def test_settings_of_brokers_can_be_asked_for_without_a_name(wire: Wire) -> None:
    assert (await _described(wire, BROKER, "")).error_code == OK
    assert (await _described(wire, BROKER, "77")).error_code == INVALID_REQUEST
