"""Asks the samples that have no result yet, a few at a time, and stores each as it comes."""

import asyncio
from dataclasses import dataclass

import structlog

from services.evaluator.adapters import evaluations
from services.evaluator.adapters.suites import Suite
from services.evaluator.adapters.tables import EvaluationRow
from services.evaluator.domain.results import SampleResult, failed_result, score_answer
from services.evaluator.domain.suites import Sample
from services.evaluator.handlers.parts import Parts
from tidemill.faults import Fault, Reason

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


async def ask_missing(
    parts: Parts, due: EvaluationRow, suite: Suite, pair: Measurements, *, give_up: bool
) -> None:
    """Asks what is missing. Raises Fault when a part is down; results so far are kept.

    give_up: the last run; a sample that meets an outage then counts as failed.
    """
    waiting: asyncio.Queue[Ask] = asyncio.Queue()
    for ask in await missing_asks(parts, due, suite, pair):
        waiting.put_nowait(ask)
    log.info("suite_running", evaluation=due.evaluation_id, missing=waiting.qsize())
    workers = [_work(parts, due, waiting, give_up) for _ in range(parts.run.concurrency)]
    try:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker)
    except* Fault as faults:
        first = next(iter(flat(faults)))
        raise Fault(first.reason) from None


def flat(group: BaseExceptionGroup[Fault]) -> list[Fault]:
    """The faults of a group of groups."""
    found: list[Fault] = []
    for error in group.exceptions:
        found += flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


async def missing_asks(
    parts: Parts, due: EvaluationRow, suite: Suite, pair: Measurements
) -> list[Ask]:
    """Baseline and candidate side by side, so that both meet the same load."""
    known = {
        measurement: await evaluations.read_results(parts.database, measurement)
        for measurement in (pair.baseline, pair.candidate)
    }
    return [
        Ask(release_id, measurement, sample)
        for sample in suite.samples
        for release_id, measurement in (
            (due.candidate_id, pair.candidate),
            (due.baseline_id, pair.baseline),
        )
        if sample.sample_id not in known[measurement]
    ]


async def _work(
    parts: Parts, due: EvaluationRow, waiting: asyncio.Queue[Ask], give_up: bool
) -> None:
    while not waiting.empty():
        ask = waiting.get_nowait()
        result = await ask_sample(parts, due.tenant_id, ask, give_up=give_up)
        async with parts.bus.unit(due.tenant_id) as unit:
            await evaluations.store_result(unit, ask.measurement_id, ask.sample.sample_id, result)


async def ask_sample(parts: Parts, tenant_id: str, ask: Ask, *, give_up: bool) -> SampleResult:
    """The scored answer, or a failed result after every try. Raises Fault on an outage."""
    rules, last = parts.run, Fault(Reason.INTERNAL)
    for attempt in range(rules.attempts):
        if attempt:
            await asyncio.sleep(rules.backoff_seconds * 2 ** (attempt - 1))
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
