"""Compression of the records of a batch, by Kafka's numbers of the codecs."""

import zlib
from importlib.util import find_spec
from typing import Final

from tidemill.broker.storage.disk import Buffer

NONE: Final = 0
GZIP: Final = 1
SNAPPY: Final = 2
LZ4: Final = 3
ZSTD: Final = 4
_GZIP_WINDOW: Final = 31
_MAX_UNPACKED_BYTES: Final = 256 << 20


def is_readable(codec: int) -> bool:
    """Whether batches of this codec can be looked into: all but gzip need cramjam."""
    return codec in (NONE, GZIP) or (codec in (SNAPPY, LZ4, ZSTD) and bool(find_spec("cramjam")))


def decompress(codec: int, body: Buffer) -> Buffer | None:
    """The plain records; None if the codec's library is missing or the bytes are not its own."""
    if codec == NONE:
        return body
    if not is_readable(codec):
        return None
    try:
        return _gunzip(body) if codec == GZIP else _decompress(codec, body)
    except Exception:  # Each library has its own; what they cannot read is the producer's.
        return None


def compress(codec: int, body: bytes) -> bytes:
    """The reverse of `decompress`, for a codec that is readable."""
    if codec == NONE:
        return body
    if codec == GZIP:
        packer = zlib.compressobj(wbits=_GZIP_WINDOW)
        return packer.compress(body) + packer.flush()
    from aiokafka import codec as library

    packers = {
        SNAPPY: library.snappy_encode,
        LZ4: library.lz4_encode,
        ZSTD: library.zstd_encode,
    }
    return bytes(packers[codec](body))


def _gunzip(body: Buffer) -> bytes | None:
    unpacker = zlib.decompressobj(wbits=_GZIP_WINDOW)
    plain = unpacker.decompress(body, _MAX_UNPACKED_BYTES)
    return plain if unpacker.eof else None


def _decompress(codec: int, body: Buffer) -> bytes:
    # Loaded only when needed: the broker starts without the client library.
    from aiokafka import codec as library

    unpackers = {
        SNAPPY: library.snappy_decode,
        LZ4: library.lz4_decode,
        ZSTD: library.zstd_decode,
    }
    return bytes(unpackers[codec](body))
