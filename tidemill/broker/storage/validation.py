"""Which batches a producer may append: everything that can be told from the header."""

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.storage import records
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


def check_keys(header: BatchHeader, batch: Buffer) -> None:
    """RequestRefused with INVALID_RECORD if a record has no key; nothing for unreadable ones."""
    body = records.plain_records(header, batch)
    if body is None:
        return
    try:
        has_keys = all(record.key is not None for record in records.views(header, body))
    except IndexError:
        raise RequestRefused(ErrorCode.corrupt_message, "records cannot be read") from None
    if not has_keys:
        raise RequestRefused(ErrorCode.invalid_record, "a compacted topic needs keys")
