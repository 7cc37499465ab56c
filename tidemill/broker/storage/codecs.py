"""Compression of the records of a batch, by Kafka's numbers of the codecs."""

import zlib
from typing import Any, Final

from tidemill.broker.storage.disk import Buffer

NONE: Final = 0
GZIP: Final = 1
SNAPPY: Final = 2
LZ4: Final = 3
ZSTD: Final = 4
_GZIP_WINDOW: Final = 31
_MAX_UNPACKED_BYTES: Final = 256 << 20
_LEAST_ROOM_BYTES: Final = 1 << 17
# How far a producer's batch is unpacked to see that it can be.
_MAX_CHECKED_BYTES: Final = 64 << 20
_LZ4_FLAGS_AT: Final = 4
_LZ4_INDEPENDENT_BLOCKS: Final = 0x20
_ROOM_IS_FULL: Final = "failed to write whole buffer"


class TooLarge(Exception):
    """What is packed is larger than the limit."""


def is_readable(codec: int) -> bool:
    """Whether batches of this codec can be looked into."""
    return codec in (NONE, GZIP, SNAPPY, LZ4, ZSTD)


def decompress(codec: int, body: Buffer) -> Buffer | None:
    """The plain records; None if the codec is unknown or the bytes are not its own."""
    if codec == NONE:
        return body
    if not is_readable(codec):
        return None
    try:
        return _plain(codec, body, _MAX_UNPACKED_BYTES)
    except Exception:  # Each library has its own; what they cannot read is the producer's.
        return None


def unpacked(codec: int, body: Buffer) -> Buffer | None:
    """As `decompress`, for what a producer sends: None also for what Java clients cannot read.

    Raises TooLarge beyond 64 MiB: that much of it was unpacked without a fault.
    """
    if not is_readable(codec) or (codec == LZ4 and not _has_independent_blocks(body)):
        return None
    try:
        return _plain(codec, body, _MAX_CHECKED_BYTES)
    except TooLarge:
        raise
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


def _plain(codec: int, body: Buffer, limit: int) -> Buffer | None:
    if codec == NONE:
        return body
    if codec == GZIP:
        return _gunzip(body, limit)
    # Loaded only when needed: the broker starts without the client library.
    from aiokafka import codec as library

    if codec == SNAPPY:
        return bytes(library.snappy_decode(body))
    import cramjam

    return _within(cramjam.lz4 if codec == LZ4 else cramjam.zstd, body, limit)


def _gunzip(body: Buffer, limit: int) -> bytes | None:
    unpacker = zlib.decompressobj(wbits=_GZIP_WINDOW)
    plain = unpacker.decompress(body, limit)
    if len(plain) == limit:
        raise TooLarge
    return plain if unpacker.eof else None


def _within(library: Any, body: Buffer, limit: int) -> Buffer:
    """Into a room that grows to the limit: a few kilobytes of zeros may stand for gigabytes, and
    the formats of LZ4 and zstd do not say so beforehand. Snappy packs 21 to 1 at most."""
    size = max(_LEAST_ROOM_BYTES, 8 * len(body))
    while True:
        room = bytearray(min(size, limit))
        try:
            return memoryview(room)[: library.decompress_into(body, room)]
        except Exception as error:
            if _ROOM_IS_FULL not in str(error):
                raise
            if size >= limit:
                raise TooLarge from None
        size *= 8


def _has_independent_blocks(body: Buffer) -> bool:
    return len(body) > _LZ4_FLAGS_AT and bool(body[_LZ4_FLAGS_AT] & _LZ4_INDEPENDENT_BLOCKS)
