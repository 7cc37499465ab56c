"""EvaluatorService over gRPC."""

from typing import Any

from services.evaluator.adapters.ledger import timestamp
from services.evaluator.adapters.tables import ReleaseRow
from services.evaluator.domain.results import Answer
from services.evaluator.domain.suites import Sample
from services.evaluator.domain.verdicts import metric_message
from services.evaluator.handlers import calls, comparing
from services.evaluator.handlers.parts import Parts
from tidemill.api.evaluator import v1 as api
from tidemill.api.events import v1 as events
from tidemill.rpc import current_caller


class EvaluatorServicer(api.EvaluatorServiceServicer):
    """Decodes, calls one handler, encodes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def CreateSuite(
        self, request: api.CreateSuiteRequest, context: Any
    ) -> api.CreateSuiteResponse:
        samples = [
            Sample(sample.sample_id, sample.question, sample.answer, tuple(sample.document_ids))
            for sample in request.samples
        ]
        tenant_id = current_caller().tenant_id
        digest = await calls.create_suite(self._parts, tenant_id, request.suite_id, samples)
        return api.CreateSuiteResponse(suite_hash=digest)

    async def ListReleases(
        self, request: api.ListReleasesRequest, context: Any
    ) -> api.ListReleasesResponse:
        page, token = await calls.list_releases(
            self._parts, current_caller().tenant_id, request.page_size, request.page_token
        )
        return api.ListReleasesResponse(
            releases=[record_of(row) for row in page], next_page_token=token
        )

    async def GetEvaluation(
        self, request: api.GetEvaluationRequest, context: Any
    ) -> api.GetEvaluationResponse:
        found = await calls.get_evaluation(
            self._parts, current_caller().tenant_id, request.evaluation_id
        )
        return api.GetEvaluationResponse(evaluation=found)

    async def CompareAnswers(
        self, request: api.CompareAnswersRequest, context: Any
    ) -> api.CompareAnswersResponse:
        decision, count = await comparing.compare_answers(
            self._parts,
            current_caller().tenant_id,
            request.suite_id,
            {message.sample_id: answer_of(message) for message in request.baseline},
            {message.sample_id: answer_of(message) for message in request.candidate},
        )
        metrics = [metric_message(comparison) for comparison in decision.comparisons]
        return api.CompareAnswersResponse(metrics=metrics, sample_count=count)

    async def RollBackRelease(
        self, request: api.RollBackReleaseRequest, context: Any
    ) -> api.RollBackReleaseResponse:
        row = await calls.roll_back(self._parts, current_caller().tenant_id, request.release_id)
        return api.RollBackReleaseResponse(release=record_of(row))


def answer_of(message: api.SampleAnswer) -> Answer:
    return Answer(
        answer_id="",
        text=message.text,
        refused=message.refused,
        cited_document_ids=tuple(message.cited_document_ids),
        duration_seconds=message.duration_seconds,
        cost_micros=message.cost_micros,
    )


def record_of(row: ReleaseRow) -> api.ReleaseRecord:
    return api.ReleaseRecord(
        release=events.Release.FromString(row.content),
        state=events.ReleaseState.Value(f"RELEASE_STATE_{row.state}"),
        epoch=row.epoch,
        reasons=row.reasons,
        evaluation_id=row.evaluation_id,
        update_time=timestamp(row.changed_at),
    )
