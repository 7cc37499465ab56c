"""DescribeAcls, DescribeClientQuotas, DescribeUserScramCredentials: there is nothing of these.

Consoles ask for them when they start, and take an error in the right place for an answer.
"""

from kio.schema.errors import ErrorCode

from tidemill.broker.node import Node
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request


async def describe_acls(node: Node, request: Request) -> Fields:
    """SECURITY_DISABLED, as Apache Kafka without an authorizer."""
    return {
        "error_code": ErrorCode.security_disabled,
        "error_message": "the embedded broker has no access control",
    }


async def describe_client_quotas(node: Node, request: Request) -> Fields:
    """No quotas."""
    return {"error_message": "", "entries": ()}


async def describe_user_scram_credentials(node: Node, request: Request) -> Fields:
    """No users: RESOURCE_NOT_FOUND for each one named."""
    rows = [
        {
            "user": user.name,
            "error_code": ErrorCode.resource_not_found,
            "error_message": "the embedded broker has no users",
        }
        for user in request.body.users or ()
    ]
    return {"error_message": "", "results": rows}
