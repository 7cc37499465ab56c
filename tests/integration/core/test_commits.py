"""A group's offset never goes back, however its commits are answered."""

from typing import Any

from kio.schema.errors import ErrorCode

from tests.integration.core.parts import effects, recording
from tests.ledger.log import committed
from tidemill.broker.faults import Fault
from tidemill.broker.wire.versions import Api
from tidemill.topics import DOCUMENTS_SUBMITTED

GROUP = f"tidemill.ingest.{DOCUMENTS_SUBMITTED.name}"


async def test_a_commit_that_is_answered_late_does_not_undo_a_later_one(
    broker: Any, outside: Any, run_service: Any, eventually: Any
) -> None:
    """The client asks again after a while; the next record is settled meanwhile."""
    loading = ErrorCode.coordinator_load_in_progress
    fault = broker.faults.add(Fault(api=Api.OFFSET_COMMIT, error=loading, times=1))
    for number in range(3):
        headers = outside.headers(DOCUMENTS_SUBMITTED, f"event-{number}")
        await outside.send(
            DOCUMENTS_SUBMITTED.name, f"acme/doc-{number}".encode(), b"", headers, partition=0
        )
    async with run_service("ingest", outside.settings, recording) as runtime:

        async def all_committed() -> bool:
            offsets = await committed(broker.bootstrap, ("ingest",))
            return len(await effects(runtime)) == 3 and offsets[GROUP].get(0) == 3

        await eventually(all_committed)
    assert fault.hits == 1
    offsets = await committed(broker.bootstrap, ("ingest",))
    assert offsets[GROUP][0] == 3, "a retried commit went back"
