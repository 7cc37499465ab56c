"""Which batches a producer may append."""

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.storage import codecs, records
from tidemill.broker.storage.batch import HEADER_SIZE, NO_PRODUCER, BatchHeader
from tidemill.broker.storage.disk import Buffer


def checked_header(batch: Buffer | None, max_bytes: int) -> BatchHeader:
    """The header of the one batch a produce request holds for a partition.

    Raises RequestRefused: INVALID_RECORD for anything but one v2 batch, MESSAGE_TOO_LARGE,
    CORRUPT_MESSAGE for a wrong checksum.
    """
    if batch is None or len(batch) < HEADER_SIZE:
        raise RequestRefused(ErrorCode.invalid_record, "no record batch")
    header = BatchHeader.read(batch)
    if header.magic != 2:
        raise RequestRefused(ErrorCode.invalid_record, "only record batches of format 2")
    if len(batch) > max_bytes:
        raise RequestRefused(
            ErrorCode.message_too_large,
            f"the batch has {len(batch)} bytes, max.message.bytes is {max_bytes}",
        )
    if header.size < len(batch):
        raise RequestRefused(ErrorCode.invalid_record, "more than one record batch")
    if header.size > len(batch) or not header.checksum_matches(batch):
        raise RequestRefused(ErrorCode.corrupt_message)
    _check_counts(header)
    return header


def _check_counts(header: BatchHeader) -> None:
    if not (header.is_plausible() and header.is_whole):
        raise RequestRefused(ErrorCode.invalid_record, "record count and offsets disagree")
    if header.is_control:
        raise RequestRefused(ErrorCode.invalid_record, "markers are written by the broker alone")
    if header.producer_id != NO_PRODUCER and header.base_sequence < 0:
        raise RequestRefused(ErrorCode.invalid_record, "a producer id without a sequence")


def check_records(header: BatchHeader, batch: Buffer, *, needs_keys: bool) -> None:
    """What consumers could not unpack is refused, and records without a key if they need one.

    Raises RequestRefused: UNKNOWN_SERVER_ERROR, as Apache Kafka does, for bytes that are not the
    codec's, INVALID_RECORD for anything but as many records as the header says. Of a batch that
    unpacks to more than 64 MiB the records are not looked at.
    """
    try:
        body = codecs.unpacked(header.codec, memoryview(batch)[HEADER_SIZE : header.size])
    except codecs.TooLarge:
        return
    if body is None:
        raise RequestRefused(ErrorCode.unknown_server_error, "the batch cannot be decompressed")
    try:
        if records.end_of(header, body) != len(body):
            raise IndexError
        has_keys = not needs_keys or _has_keys(header, body)
    except IndexError:
        raise RequestRefused(ErrorCode.invalid_record, "records cannot be read") from None
    if not has_keys:
        raise RequestRefused(ErrorCode.invalid_record, "a compacted topic needs keys")


def _has_keys(header: BatchHeader, body: Buffer) -> bool:
    return all(record.key is not None for record in records.views(header, body))
