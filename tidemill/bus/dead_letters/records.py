"""Dead letters: the record as it was, with why, for whom and from where."""

import json

from tidemill.bus.dead_letters.status import healed_headers
from tidemill.bus.envelope import (
    CONSUMER,
    DEAD_LETTER_ID,
    DETAIL,
    EVENT_ID,
    ORIGIN,
    ORIGIN_TIME,
    REASON,
    TOKEN,
    TOKEN_SUBJECT,
    TRACEPARENT,
    Record,
)
from tidemill.bus.unit import OutboxValues, raw_values
from tidemill.faults import Fault
from tidemill.ids import derived_id

MAX_DETAIL = 500


def dead_letter(
    record: Record, consumer: str, fault: Fault, traceparent: str, subject: str
) -> OutboxValues:
    """A row for the dead-letter topic. The token stays behind, since a dead letter lives for weeks;
    subject: the one that it was verified to have."""
    headers = {name: value for name, value in record.headers.items() if name != TOKEN}
    headers |= {
        EVENT_ID: record.event_id,
        DEAD_LETTER_ID: derived_id(consumer, record.event_id, record.origin),
        REASON: fault.reason.value,
        DETAIL: json.dumps(fault.metadata, sort_keys=True)[:MAX_DETAIL],
        ORIGIN: record.origin,
        ORIGIN_TIME: record.time.isoformat(),
        CONSUMER: consumer,
        TOKEN_SUBJECT: subject,
    }
    if traceparent:
        headers[TRACEPARENT] = traceparent
    return raw_values(f"{record.topic}.dlq", record.key, record.value, headers)


def healed_values(record: Record, consumer: str) -> OutboxValues:
    """A row for the dead-letter topic: a replay of the record's event was applied."""
    headers = healed_headers(consumer, record.event_id)
    return raw_values(f"{record.topic}.dlq", record.key, None, headers)
