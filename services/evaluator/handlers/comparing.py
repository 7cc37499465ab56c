"""Compares two sets of answers that a caller collected, as the gate would."""

import asyncio
from collections.abc import Mapping

from services.evaluator.adapters import suites
from services.evaluator.adapters.suites import Suite
from services.evaluator.domain.gate import Decision, judge, seed_of
from services.evaluator.domain.results import Answer, Pair, SampleResult, pair_of, score_answer
from services.evaluator.domain.suites import Sample
from services.evaluator.handlers.parts import Parts
from tidemill.faults import Fault, Reason

UNANSWERED = SampleResult()
"""Wrong, without being a failure of a release: the caller did not ask."""

Answers = Mapping[str, Answer]


async def compare_answers(
    parts: Parts, tenant_id: str, suite_id: str, baseline: Answers, candidate: Answers
) -> tuple[Decision, int]:
    """The gate's figures and the number of samples that either side answered.

    Answers are by sample id. Faults: NOT_FOUND without such a suite; INVALID_ARGUMENT when an
    answer names no sample of it, or there is none.
    """
    suite = await parts.database.read(
        lambda session: suites.suite_named(session, tenant_id, suite_id)
    )
    if suite is None:
        raise Fault(Reason.NOT_FOUND, resource="suite")
    pairs = pairs_of(suite, baseline, candidate)
    if not pairs or not {*baseline, *candidate} <= {pair.sample_id for pair in pairs}:
        raise Fault(Reason.INVALID_ARGUMENT, field="sample_id")
    seed = seed_of(suite.suite_hash, "baseline", "candidate")
    decision = await asyncio.to_thread(judge, pairs, parts.gate, parts.gate.alpha, seed)
    return decision, len(pairs)


def pairs_of(suite: Suite, baseline: Answers, candidate: Answers) -> list[Pair]:
    """The samples that at least one side answered."""
    return [
        pair_of(sample, _scored(sample, baseline), _scored(sample, candidate))
        for sample in suite.samples
        if sample.sample_id in baseline or sample.sample_id in candidate
    ]


def _scored(sample: Sample, answers: Answers) -> SampleResult:
    answer = answers.get(sample.sample_id)
    return score_answer(sample, answer) if answer else UNANSWERED
