"""When the rest of a suite cannot save a candidate: it is not asked then."""

from collections.abc import Mapping, Sequence

from services.evaluator.domain.metrics import ROUNDING, mean
from services.evaluator.domain.results import Pair, SampleResult, best_result, pair_of
from services.evaluator.domain.suites import Sample
from services.evaluator.settings import GateRules

Results = Mapping[str, SampleResult]


def pairs_at_best(samples: Sequence[Sample], baseline: Results, candidate: Results) -> list[Pair]:
    """Every sample under both releases; the candidate's missing ones are assumed at their best.

    The baseline's results, by sample id, are complete.
    """
    return [
        pair_of(
            sample,
            baseline[sample.sample_id],
            candidate.get(sample.sample_id) or best_result(sample),
        )
        for sample in samples
    ]


def is_hopeless(
    samples: Sequence[Sample], baseline: Results, candidate: Results, rules: GateRules
) -> bool:
    """Whether the least gain is out of reach, whatever the missing answers will be.

    Exact, as the mean gain only grows with the score of a sample and no score is above 1: nobody
    is stopped whom the gate would have passed on these documents. False while results of the
    baseline are missing.
    """
    if not all(sample.sample_id in baseline for sample in samples):
        return False
    pairs = pairs_at_best(samples, baseline, candidate)
    gain = mean([pair.candidate_score - pair.baseline_score for pair in pairs])
    return gain < rules.min_effect - ROUNDING
