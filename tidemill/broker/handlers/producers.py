"""InitProducerId, for idempotent and transactional producers."""

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.node import Node
from tidemill.broker.storage.batch import NO_PRODUCER
from tidemill.broker.transactions.transaction import ProducerKey
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request, milliseconds

_TELLS_FENCED_FROM = 4


async def init_producer_id(node: Node, request: Request) -> Fields:
    """A fresh id; or the id of a transactional id, with an epoch that shuts out all before it."""
    body = request.body
    try:
        if body.transactional_id is None:
            return {"producer_id": node.producer_ids.allocate(), "producer_epoch": 0}
        timeout_ms = milliseconds(body.transaction_timeout)
        producer_id, epoch = await node.transactions.initialize(
            body.transactional_id, timeout_ms, _claim(request)
        )
    except RequestRefused as refused:
        if request.version < _TELLS_FENCED_FROM:
            refused = before_fencing_had_a_code(refused)
        return refuse_init_producer_id(request, refused.code)
    return {"producer_id": producer_id, "producer_epoch": epoch}


def refuse_init_producer_id(request: Request, code: ErrorCode) -> Fields:
    """The error."""
    return {"error_code": code, "producer_id": -1, "producer_epoch": -1}


def before_fencing_had_a_code(refused: RequestRefused) -> RequestRefused:
    """What requests that do not know PRODUCER_FENCED are answered instead."""
    if refused.code is not ErrorCode.producer_fenced:
        return refused
    return RequestRefused(ErrorCode.invalid_producer_epoch)


def _claim(request: Request) -> ProducerKey | None:
    producer_id = getattr(request.body, "producer_id", NO_PRODUCER)
    return None if producer_id == NO_PRODUCER else (producer_id, request.body.producer_epoch)
