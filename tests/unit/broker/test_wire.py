"""The wire layer: what it writes, kio reads back; what it cannot read, it refuses."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.index import load_response_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader

from tidemill.broker.errors import MalformedRequest
from tidemill.broker.handlers.routes import ROUTES
from tidemill.broker.wire.encoding import unsigned_varint
from tidemill.broker.wire.requests import encode_response, read_body, read_header
from tidemill.broker.wire.versions import VERSIONS, Api, advertised, is_spoken

ALL_VERSIONS = [
    (api, version) for api, (low, high) in VERSIONS.items() for version in range(low, high + 1)
]


def _decoded(api: Api, version: int, frame: bytes) -> Any:
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    schema = load_response_schema(api.value, version)
    begin = 9 if schema.__flexible__ and api is not Api.API_VERSIONS else 8
    body, size = entity_reader(schema)(frame, begin)
    assert begin + size == len(frame), "nothing is left over"
    return body


@pytest.mark.parametrize(("api", "version"), ALL_VERSIONS)
def test_an_answer_of_defaults_can_be_read_in_every_version(api: Api, version: int) -> None:
    _decoded(api, version, encode_response(api, version, 7, {}))


@pytest.mark.parametrize("version", [4, 7, 11])
def test_a_fetch_answer_keeps_its_fields_and_its_bytes(version: int) -> None:
    row = {
        "partition_index": 3,
        "error_code": ErrorCode.none,
        "high_watermark": 9,
        "last_stable_offset": 9,
        "log_start_offset": 1,
        "records": memoryview(b"batches"),
    }
    values = {"responses": [{"topic": "orders", "partitions": [row]}]}
    body = _decoded(Api.FETCH, version, encode_response(Api.FETCH, version, 1, values))
    (topic,) = body.responses
    (read,) = topic.partitions
    assert (topic.topic, read.partition_index, read.high_watermark) == ("orders", 3, 9)
    assert bytes(read.records) == b"batches"


def test_a_flexible_answer_keeps_nested_arrays_and_nulls() -> None:
    values = {
        "cluster_id": "mill",
        "controller_id": 1,
        "brokers": [{"broker_id": 1, "host": "localhost", "port": 9092}],
    }
    frame = encode_response(Api.DESCRIBE_CLUSTER, 0, 1, values)
    body = _decoded(Api.DESCRIBE_CLUSTER, 0, frame)
    assert (body.cluster_id, body.brokers[0].host, body.brokers[0].rack) == (
        "mill",
        "localhost",
        None,
    )


def test_every_advertised_api_has_a_handler() -> None:
    assert set(ROUTES) == set(VERSIONS) == set(Api)
    assert {row["api_key"] for row in advertised()} == {api.value for api in Api}


@pytest.mark.parametrize(
    ("api_key", "version"), [(0, 2), (0, 99), (24, 4), (27, 1), (9_999, 0), (-1, 0)]
)
def test_what_is_not_spoken_is_known(api_key: int, version: int) -> None:
    assert not is_spoken(api_key, version)


@given(st.integers(0, 2**35 - 1))
def test_varints_end_where_they_should(value: int) -> None:
    encoded = unsigned_varint(value)
    assert all(byte & 0x80 for byte in encoded[:-1])
    assert not encoded[-1] & 0x80
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(encoded)) == value


@given(st.binary(max_size=200), st.sampled_from(ALL_VERSIONS))
def test_noise_is_refused_or_read_but_never_crashes(noise: bytes, spoken: tuple[Api, int]) -> None:
    api, version = spoken
    frame = api.value.to_bytes(2, "big") + version.to_bytes(2, "big") + noise
    with contextlib.suppress(MalformedRequest):
        read_body(frame, read_header(frame))
