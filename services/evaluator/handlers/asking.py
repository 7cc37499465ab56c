"""Asks the samples that have no result yet, a few at a time, and stores each as it comes."""

import asyncio
from dataclasses import dataclass

import structlog

from services.evaluator.adapters import evaluations
from services.evaluator.adapters.suites import Suite
from services.evaluator.adapters.tables import EvaluationRow
from services.evaluator.domain.futility import is_hopeless
from services.evaluator.domain.results import SampleResult, failed_result, score_answer
from services.evaluator.domain.suites import Sample
from services.evaluator.handlers.parts import Parts
from tidemill.backoff import Backoff
from tidemill.db.rivals import outlasting_rivals
from tidemill.faults import Fault, Reason

MAX_BACKOFF_SECONDS = 60.0

log = structlog.get_logger()

OUTAGES = frozenset(
    {
        Reason.ADAPTER_UNAVAILABLE,
        Reason.DEPENDENCY_UNAVAILABLE,
        Reason.OVERLOADED,
        Reason.STORAGE_FULL,
        # Inference has not read the proposal yet.
        Reason.RELEASE_NOT_FOUND,
    }
)
"""Reasons that say nothing about the release: the run waits instead of failing the sample."""


@dataclass(frozen=True)
class Measurements:
    """Ids under which the results of both releases are kept."""

    baseline: str
    candidate: str


@dataclass(frozen=True)
class Ask:
    """One sample to be asked of one release."""

    release_id: str
    measurement_id: str
    sample: Sample


@dataclass(frozen=True)
class Round:
    """One run over what is missing; `known` are the results so far by measurement and sample."""

    parts: Parts
    due: EvaluationRow
    suite: Suite
    pair: Measurements
    known: dict[str, dict[str, SampleResult]]
    waiting: asyncio.Queue[Ask]
    give_up: bool

    def is_settled(self) -> bool:
        """Whether asking on cannot change the verdict."""
        return self.parts.run.stop_early and is_hopeless(
            self.suite.samples,
            self.known[self.pair.baseline],
            self.known[self.pair.candidate],
            self.parts.gate,
        )


async def ask_missing(
    parts: Parts, due: EvaluationRow, suite: Suite, pair: Measurements, *, give_up: bool
) -> None:
    """Asks what is missing, or what of it can still change the verdict.

    Raises Fault when a part is down; results so far are kept. give_up: the last run; a sample
    that meets an outage then counts as failed.
    """
    known = await _known(parts, pair)
    this = Round(parts, due, suite, pair, known, asyncio.Queue(), give_up)
    for ask in _missing(due, suite, pair, known):
        this.waiting.put_nowait(ask)
    log.info("suite_running", evaluation=due.evaluation_id, missing=this.waiting.qsize())
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(parts.run.concurrency):
                group.create_task(_work(this))
    except* Fault as faults:
        first = next(iter(flat(faults)))
        raise Fault(first.reason) from None
    log.info("suite_run", evaluation=due.evaluation_id, not_asked=this.waiting.qsize())


def flat(group: BaseExceptionGroup[Fault]) -> list[Fault]:
    """The faults of a group of groups."""
    found: list[Fault] = []
    for error in group.exceptions:
        found += flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


async def count_missing(parts: Parts, due: EvaluationRow, suite: Suite, pair: Measurements) -> int:
    """Asks without a result."""
    return len(_missing(due, suite, pair, await _known(parts, pair)))


async def _known(parts: Parts, pair: Measurements) -> dict[str, dict[str, SampleResult]]:
    return await parts.database.read(
        lambda session: {
            measurement: evaluations.read_results(session, measurement)
            for measurement in (pair.baseline, pair.candidate)
        }
    )


def _missing(
    due: EvaluationRow, suite: Suite, pair: Measurements, known: dict[str, dict[str, SampleResult]]
) -> list[Ask]:
    """Baseline and candidate side by side, so that both meet the same load."""
    return [
        Ask(release_id, measurement, sample)
        for sample in suite.samples
        for release_id, measurement in (
            (due.candidate_id, pair.candidate),
            (due.baseline_id, pair.baseline),
        )
        if sample.sample_id not in known[measurement]
    ]


async def _work(this: Round) -> None:
    parts, tenant_id = this.parts, this.due.tenant_id
    while not this.waiting.empty() and not this.is_settled():
        ask = this.waiting.get_nowait()
        result = await ask_sample(parts, tenant_id, ask, give_up=this.give_up)
        await store_result(parts, tenant_id, ask, result)
        this.known[ask.measurement_id][ask.sample.sample_id] = result


@outlasting_rivals
async def store_result(parts: Parts, tenant_id: str, ask: Ask, result: SampleResult) -> None:
    await parts.bus.write(
        tenant_id,
        lambda unit: evaluations.store_result(
            unit, ask.measurement_id, ask.sample.sample_id, result
        ),
    )


async def ask_sample(parts: Parts, tenant_id: str, ask: Ask, *, give_up: bool) -> SampleResult:
    """The scored answer, or a failed result after every try. Raises Fault on an outage."""
    rules, last = parts.run, Fault(Reason.INTERNAL)
    backoff = Backoff(rules.backoff_seconds, MAX_BACKOFF_SECONDS)
    for attempt in range(rules.attempts):
        if attempt:
            await asyncio.sleep(backoff.delay(attempt))
        try:
            answer = await parts.serving.ask(
                tenant_id,
                ask.release_id,
                ask.sample.question,
                rules.max_output_tokens,
                rules.answer_timeout_seconds,
            )
            return score_answer(ask.sample, answer)
        except Fault as fault:
            last = fault
    if last.reason in OUTAGES and not give_up:
        raise last
    return failed_result(last.reason.value)
