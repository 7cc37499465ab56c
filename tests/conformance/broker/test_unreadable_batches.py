"""Batches that no consumer could unpack are refused when they are produced."""

import gzip
import struct
import zlib
from functools import partial
from typing import Any

import cramjam
import pytest
from crc32c import crc32c

from tests.conformance.broker.wire import Wire, batch

OK, UNKNOWN_ERROR, INVALID_RECORD = 0, -1, 87
GZIP, SNAPPY, LZ4, ZSTD, NO_SUCH_CODEC = 1, 2, 3, 4, 5
PLAIN = bytes(batch(b"one", b"two", time=1_700_000_000_000))
RECORDS = PLAIN[61:]
NOISE = b"these bytes are no codec's own"
_LZ4_BLOCK = bytes(cramjam.lz4.compress_block(RECORDS))
_LZ4_LINKED = bytes(cramjam.lz4.compress(RECORDS))
_ZSTD = bytes(cramjam.zstd.compress(RECORDS))
_LZ4 = cramjam.lz4.Compressor(block_linked=False)
_LZ4.compress(RECORDS)
_LZ4_FRAME = bytes(_LZ4.finish())


def _packed(codec: int, body: bytes, count: int = 2) -> bytes:
    """The batch with another body, under a header and a checksum that fit."""
    packed = bytearray(PLAIN[:61]) + body
    struct.pack_into(">i", packed, 8, len(packed) - 12)
    struct.pack_into(">hi", packed, 21, codec, count - 1)
    struct.pack_into(">i", packed, 57, count)
    struct.pack_into(">I", packed, 17, crc32c(bytes(packed[21:])))
    return bytes(packed)


@pytest.fixture
async def wire(kafka: Any) -> Wire:
    return await Wire.open(kafka)


@pytest.mark.parametrize(
    ("codec", "body"),
    [
        *((codec, NOISE) for codec in (GZIP, SNAPPY, LZ4, ZSTD, NO_SUCH_CODEC)),
        (GZIP, b""),
        (GZIP, gzip.compress(RECORDS, mtime=0)[:-12]),
        (GZIP, gzip.compress(RECORDS, mtime=0)[:-8] + bytes(8)),
        (GZIP, zlib.compress(RECORDS)),
        (LZ4, _LZ4_BLOCK),
        (LZ4, _LZ4_LINKED),
        (LZ4, _LZ4_FRAME[:-4]),
        (ZSTD, _ZSTD[:-3]),
    ],
)
async def test_bytes_that_are_not_the_codecs_are_refused(
    kafka: Any, wire: Wire, codec: int, body: bytes
) -> None:
    topic = await kafka.topic(retention_ms=-1)
    assert await wire.produce(topic, _packed(codec, body)) == (UNKNOWN_ERROR, -1)
    assert await wire.produce(topic, PLAIN) == (OK, 0), "nothing was appended"


@pytest.mark.parametrize(
    ("body", "count"),
    [(NOISE, 2), (RECORDS + b"more", 2), (RECORDS[:-3], 2), (RECORDS, 3), (b"\xff" * 100, 2)],
    ids=["noise", "surplus", "cut", "too few", "endless number"],
)
@pytest.mark.parametrize(
    ("codec", "pack"),
    [(GZIP, partial(gzip.compress, mtime=0)), (ZSTD, lambda b: bytes(cramjam.zstd.compress(b)))],
)
async def test_what_unpacks_to_anything_but_its_records_is_refused(
    kafka: Any, wire: Wire, codec: int, pack: Any, body: bytes, count: int
) -> None:
    topic = await kafka.topic(retention_ms=-1)
    assert await wire.produce(topic, _packed(codec, pack(body), count)) == (INVALID_RECORD, -1)
    assert await wire.produce(topic, PLAIN) == (OK, 0), "nothing was appended"


@pytest.mark.parametrize(
    ("codec", "body"),
    [
        (GZIP, gzip.compress(RECORDS, mtime=0)),
        (SNAPPY, bytes(cramjam.snappy.compress_raw(RECORDS))),
        (LZ4, _LZ4_FRAME),
        (ZSTD, _ZSTD),
    ],
)
async def test_what_can_be_unpacked_is_taken(
    kafka: Any, wire: Wire, codec: int, body: bytes
) -> None:
    topic = await kafka.topic(retention_ms=-1)
    assert await wire.produce(topic, _packed(codec, body)) == (OK, 0)
