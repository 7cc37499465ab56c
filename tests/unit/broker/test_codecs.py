"""What producers pack is unpacked within bounds."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import cramjam
import pytest

from tidemill.broker.storage import codecs

BOMB_BYTES = 512 << 20


def _gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    block = bytes(1 << 20)
    packed = b"".join(packer.compress(block) for _ in range(BOMB_BYTES >> 20))
    return packed + packer.flush()


def _zstd_bomb() -> bytes:
    packer = cramjam.zstd.Compressor()
    block = bytes(1 << 20)
    for _ in range(BOMB_BYTES >> 20):
        packer.compress(block)
    return bytes(packer.finish())


def _lz4_bomb() -> bytes:
    packer = cramjam.lz4.Compressor(block_linked=False)
    block = bytes(1 << 20)
    for _ in range(BOMB_BYTES >> 20):
        packer.compress(block)
    return bytes(packer.finish())


@pytest.mark.parametrize(
    ("codec", "bomb"),
    [(codecs.GZIP, _gzip_bomb), (codecs.LZ4, _lz4_bomb), (codecs.ZSTD, _zstd_bomb)],
)
def test_a_bomb_is_unpacked_to_the_limit_and_no_further(
    codec: int, bomb: Callable[[], bytes]
) -> None:
    packed = bomb()
    tracemalloc.start()
    try:
        with pytest.raises(codecs.TooLarge):
            codecs.unpacked(codec, packed)
        assert tracemalloc.get_traced_memory()[1] < 160 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "codec", [codecs.NONE, codecs.GZIP, codecs.SNAPPY, codecs.LZ4, codecs.ZSTD]
)
def test_what_was_packed_here_can_be_unpacked(codec: int) -> None:
    plain = bytes(range(256)) * 20_000
    assert bytes(codecs.unpacked(codec, codecs.compress(codec, plain)) or b"") == plain


def test_what_is_no_codecs_own_is_nothing() -> None:
    assert codecs.unpacked(codecs.GZIP, gzip.compress(b"plain")[:-1]) is None
    assert codecs.unpacked(7, b"plain") is None
