"""InitProducerId, for idempotent producers."""

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.node import Node
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request


async def init_producer_id(node: Node, request: Request) -> Fields:
    """A fresh id with epoch 0; transactional ids are not supported."""
    if request.body.transactional_id is not None:
        return refuse_init_producer_id(request, ErrorCode.unsupported_version)
    try:
        producer_id = node.producer_ids.allocate()
    except RequestRefused as refused:
        return refuse_init_producer_id(request, refused.code)
    return {"producer_id": producer_id, "producer_epoch": 0}


def refuse_init_producer_id(request: Request, code: ErrorCode) -> Fields:
    """The error."""
    return {"error_code": code, "producer_id": -1, "producer_epoch": -1}
