"""Kafka's signed varints, as the fields of a record are written."""

from tidemill.broker.storage.disk import Buffer

_LONGEST_SHIFT = 63


def read_varint(body: Buffer, position: int) -> tuple[int, int]:
    """(value, position behind it); raises IndexError at the end of the bytes, or of a number."""
    value = shift = 0
    while True:
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
        if shift > _LONGEST_SHIFT:
            raise IndexError


def varint(value: int) -> bytes:
    """Zigzag, then 7 bits a byte, lowest first."""
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    out = bytearray()
    while rest > 0x7F:
        out.append(0x80 | rest & 0x7F)
        rest >>= 7
    out.append(rest)
    return bytes(out)
