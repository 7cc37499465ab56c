"""The demo's steps, in order; each uses the mesh as a product service would."""

import asyncio
import itertools
from collections import Counter
from typing import Any

from tidemill.api.evaluator.v1 import (
    CreateSuiteRequest,
    EvaluatorServiceStub,
    GetEvaluationRequest,
    ReleaseRecord,
    Sample,
)
from tidemill.api.events.v1 import (
    RELEASE_STATE_CANARY,
    RELEASE_STATE_PROMOTED,
    RELEASE_STATE_REJECTED,
    FeedbackSubmitted,
)
from tidemill.api.monitor.v1 import MonitorServiceStub, SetBudgetRequest
from tidemill.api.retriever.v1 import GetIndexRequest, RetrieverServiceStub
from tidemill.cli.context import Context
from tidemill.cli.demo.alerts import wait_for_alerts
from tidemill.cli.demo.asking import Asked, Tick, ask_all
from tidemill.cli.demo.handbook import Handbook, Question
from tidemill.cli.demo.judging import honest_feedback, scrambled_feedback
from tidemill.cli.demo.report import Report
from tidemill.cli.demo.stages import Stages
from tidemill.cli.demo.waiting import (
    list_runs,
    release_of,
    state_name,
    wait_decided,
    wait_indexed,
    wait_trained,
)
from tidemill.cli.output import CommandFailed
from tidemill.client import Client
from tidemill.rpc import call

SUITE = "handbook-held-out"
RPC_SECONDS = 30.0
CANARY_ROUNDS = 40
CANARY_BATCH = 8
LOOK_SECONDS = 1.5
"""The evaluator looks at its canary once a second."""
TINY_BUDGET_MICROS = 1
SHOWN = 3


class Flow:
    """One run of the demo."""

    def __init__(
        self, context: Context, client: Client, handbook: Handbook, stages: Stages, report: Report
    ) -> None:
        self._context = context
        self._client = client
        self._handbook = handbook
        self._stages = stages
        self._report = report
        self._output = context.output

    async def run(self) -> None:
        with self._stages.stage("documents", "Submit the handbook as Kafka events"):
            await self._submit()
        with self._stages.stage("ask", "Ask over gRPC: the questions that users will judge"):
            pool = await self._ask_first()
        with self._stages.stage("train", "Feedback as Kafka events; the trainer starts by itself"):
            adapter = await self._teach(pool)
        with self._stages.stage("gate", "The evaluator gates the release on the held-out set"):
            record = await self._gate(adapter)
        record = await self._learn_more(pool, record)
        with self._stages.stage("canary", "Canary on live traffic, then promotion"):
            await self._canary(record)
        with self._stages.stage("proof", "What the gate measured, and the first answers again"):
            await self._show_proof()
        with self._stages.stage("bad candidate", "Train on scrambled corrections; gate it"):
            await self._bad_candidate(pool)
        with self._stages.stage("alerts", "Questions from another domain, and a spent budget"):
            await self._alerts()

    async def _submit(self) -> None:
        for document in self._handbook.documents:
            content = await asyncio.to_thread(document.path.read_bytes)
            await self._client.submit_document(
                document.document_id, document.media_type, content, title=document.title
            )
        count = len(self._handbook.documents)
        await wait_indexed(self._client, count, self._output)
        stub = RetrieverServiceStub(self._client.channels.to("retriever"))
        index = await self._call(stub.GetIndex, GetIndexRequest())
        self._report.documents, self._report.chunks = index.documents, index.chunks
        self._output.note(f"  {index.documents} documents, {index.chunks} chunks searchable")
        await self._create_suite()

    async def _create_suite(self) -> None:
        """The evaluator alone keeps the held-out answers; the trainer never sees them."""
        samples = [
            Sample(
                sample_id=q.question_id,
                question=q.text,
                answer=q.answer,
                document_ids=[q.document_id] if q.document_id else [],
            )
            for q in self._handbook.held_out
        ]
        stub = EvaluatorServiceStub(self._client.channels.to("evaluator"))
        await self._call(stub.CreateSuite, CreateSuiteRequest(suite_id=SUITE, samples=samples))

    async def _ask_first(self) -> list[Asked]:
        for question in self._handbook.pool[:SHOWN]:
            await self._show(question)
        return await ask_all(
            self._client, self._handbook.pool, self._tick("feedback pool"), user_prefix="pool"
        )

    async def _show(self, question: Question) -> None:
        """Stream one answer to the screen."""
        self._output.line(f"  Q: {question.text}")
        self._output.raw("  A: ")
        async for response in self._client.generate(question.text, end_user_id="demo"):
            self._output.raw(response.text_delta)
            if response.HasField("completed"):
                self._output.line("")
                for c in response.completed.citations:
                    place = f"{c.document_id} v{c.version} chunk {c.chunk_id}"
                    self._output.line(f"     [{c.marker}] {place}")

    async def _teach(self, pool: list[Asked]) -> str:
        events = honest_feedback(pool)
        kinds = Counter(str(event.WhichOneof("signal")) for event in events)
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        return await self._train_on(pool, events, f"feedback events: {counted}")

    async def _train_on(
        self, asked: list[Asked], events: list[FeedbackSubmitted], what: str
    ) -> str:
        """The adapter that the trainer makes of the events."""
        known = {run.run_id for run in await list_runs(self._client)}
        for item, event in zip(asked, events, strict=True):
            await self._client.submit_feedback(event, traceparent=item.answer.traceparent)
        self._output.note(f"  sent {len(events)} {what}")
        return (await wait_trained(self._client, known, self._output)).adapter

    async def _gate(self, adapter: str) -> ReleaseRecord:
        record = await wait_decided(self._client, adapter, self._output)
        decided = f"{state_name(record)} {', '.join(record.reasons)}".rstrip()
        self._output.note(f"  release {record.release.release_id}: {decided}")
        return record

    async def _learn_more(self, pool: list[Asked], record: ReleaseRecord) -> ReleaseRecord:
        """The candidate that passes the gate: the first, or one that learned from more feedback,
        which joins the pool.

        What a few dozen corrections teach a small model depends on the processor's rounding too.
        """
        for questions in self._handbook.later:
            if record.state != RELEASE_STATE_REJECTED:
                break
            self._report.refused_before.append(record)
            self._stages.one_more()
            with self._stages.stage("more feedback", "Refused: more users judge, it learns again"):
                more = await ask_all(
                    self._client, questions, self._tick("feedback pool"), user_prefix="more"
                )
                pool += more
                record = await self._gate(await self._teach(more))
        if record.state == RELEASE_STATE_REJECTED:
            reasons = ", ".join(record.reasons)
            raise CommandFailed("GATE_REFUSED", f"{reasons}; a larger --pool teaches more")
        return record

    async def _canary(self, record: ReleaseRecord) -> None:
        """Live traffic by many users until the evaluator has decided."""
        adapter = record.release.adapter
        users = itertools.cycle(self._handbook.pool)
        for number in range(CANARY_ROUNDS):
            if record.state != RELEASE_STATE_CANARY:
                break
            batch = list(itertools.islice(users, CANARY_BATCH))
            asked = await ask_all(
                self._client, batch, lambda done, total: None, user_prefix=f"live-{number}"
            )
            share = sum(item.answer.canary for item in asked)
            self._output.note(f"  {len(asked)} live answers, {share} by the canary")
            await asyncio.sleep(LOOK_SECONDS)
            record = await release_of(self._client, adapter) or record
        if record.state != RELEASE_STATE_PROMOTED:
            reasons = ", ".join(record.reasons) or "no decision yet"
            raise CommandFailed("NOT_PROMOTED", f"release is {state_name(record)}: {reasons}")
        self._output.note(f"  release {record.release.release_id}: {state_name(record)}")
        self._report.promoted = record

    async def _show_proof(self) -> None:
        """The figures of the verdict itself: the same questions, before and after, one gate."""
        promoted = self._report.promoted
        stub = EvaluatorServiceStub(self._client.channels.to("evaluator"))
        request = GetEvaluationRequest(evaluation_id=promoted.evaluation_id if promoted else "")
        response = await self._call(stub.GetEvaluation, request)
        self._report.evaluation = response.evaluation
        score = self._report.score
        self._output.note(
            f"  score {score.baseline:.3f} -> {score.candidate:.3f}, p = {score.p_value:.2g}"
        )
        for question in self._handbook.pool[:SHOWN]:
            await self._show(question)

    async def _bad_candidate(self, pool: list[Asked]) -> None:
        events = scrambled_feedback(pool, self._report.seed)
        adapter = await self._train_on(pool, events, "scrambled corrections")
        record = self._report.refused = await self._gate(adapter)
        if record.state != RELEASE_STATE_REJECTED:
            raise CommandFailed("GATE_FAILED", "the scrambled candidate was not refused")

    async def _alerts(self) -> None:
        stub = MonitorServiceStub(self._client.channels.to("monitor"))
        await self._call(stub.SetBudget, SetBudgetRequest(budget_micros=TINY_BUDGET_MICROS))
        await ask_all(
            self._client, self._handbook.other_domain, self._tick("other domain"), user_prefix="odd"
        )
        await self._show(self._handbook.pool[0])
        self._report.alerts = await wait_for_alerts(
            self._context.settings.kafka_address, self._client.tenant_id, {"DRIFT", "COST"}
        )
        # The next day's real work should not start above its budget.
        await self._call(stub.SetBudget, SetBudgetRequest(budget_micros=0))

    def _tick(self, what: str) -> Tick:
        def tick(done: int, total: int) -> None:
            if done == total or done % 20 == 0:
                self._output.note(f"  {what}: {done} of {total} answered")

        return tick

    async def _call(self, method: Any, request: Any) -> Any:
        return await call(method, request, token=self._client.token, timeout=RPC_SECONDS)
