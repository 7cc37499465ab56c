"""gRPC in: runs, trigger and lineage of the caller's tenant."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from services.trainer.adapters.store import RunRow, RunState
from services.trainer.domain.dataset import Limits
from services.trainer.handlers import queries
from tidemill.api.trainer.v1 import (
    GetLineageRequest,
    GetLineageResponse,
    GetTriggerRequest,
    GetTriggerResponse,
    ListRunsRequest,
    ListRunsResponse,
    Run,
)
from tidemill.api.trainer.v1 import RunState as ApiRunState
from tidemill.api.trainer.v1.trainer_service_pb2_grpc import TrainerServiceServicer
from tidemill.db import Database
from tidemill.faults import Fault, Reason
from tidemill.rpc import current_caller

DEFAULT_PAGE = 20
MAX_PAGE = 100

STATES = {
    RunState.RUNNING: ApiRunState.RUN_STATE_RUNNING,
    RunState.SUCCEEDED: ApiRunState.RUN_STATE_SUCCEEDED,
    RunState.FAILED: ApiRunState.RUN_STATE_FAILED,
}


class TrainerServicer(TrainerServiceServicer):
    """TrainerService over the trainer's rows."""

    def __init__(self, database: Database, limits: Limits, needed: int) -> None:
        self._database = database
        self._limits = limits
        self._needed = needed

    async def ListRuns(self, request: ListRunsRequest, context: Any) -> ListRunsResponse:
        size = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
        if size < 0:
            raise Fault(Reason.INVALID_ARGUMENT, field="page_size")
        before = number_of(request.page_token)
        page = await queries.list_runs(self._database, current_caller().tenant_id, before, size)
        token = "" if page.next is None else str(page.next)
        return ListRunsResponse(runs=[run_of(row) for row in page.runs], next_page_token=token)

    async def GetTrigger(self, request: GetTriggerRequest, context: Any) -> GetTriggerResponse:
        tenant = current_caller().tenant_id
        state = await queries.trigger_state(self._database, tenant, self._limits)
        return GetTriggerResponse(
            pending_feedback=state.pending,
            needed_feedback=self._needed,
            training=state.training,
            waiting_feedback=state.waiting,
            excluded_feedback=state.skipped,
        )

    async def GetLineage(self, request: GetLineageRequest, context: Any) -> GetLineageResponse:
        tenant = current_caller().tenant_id
        run, rows = await queries.lineage_of(self._database, tenant, request.adapter)
        return GetLineageResponse(
            adapter=run.adapter,
            dataset_hash=run.dataset_hash,
            feedback_ids=[row.feedback_id for row in rows],
            answer_ids=sorted({row.answer_id for row in rows}),
        )


def number_of(page_token: str) -> int | None:
    if not page_token:
        return None
    if not page_token.isascii() or not page_token.isdigit() or len(page_token) > 9:
        raise Fault(Reason.INVALID_ARGUMENT, field="page_token")
    return int(page_token)


def run_of(row: RunRow) -> Run:
    run = Run(
        run_id=row.run_id,
        state=STATES[RunState(row.state)],
        adapter=row.adapter,
        dataset_hash=row.dataset_hash,
        supervised_examples=row.supervised_examples,
        preference_pairs=row.preference_pairs,
        steps_done=row.steps_done,
        steps_planned=row.steps_planned,
        loss=row.loss,
        reason=row.reason,
        create_time=Timestamp(),
    )
    run.create_time.FromDatetime(row.create_time)
    if row.end_time:
        run.end_time.FromDatetime(row.end_time)
    return run
