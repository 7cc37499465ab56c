"""The gate: a paired test, a minimum effect, and a bound on every regression."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from services.evaluator.domain import metrics
from services.evaluator.domain.metrics import Comparison
from services.evaluator.domain.permutation import sign_flip_p_value
from services.evaluator.domain.results import Pair
from services.evaluator.settings import GateRules

TOO_FEW_SAMPLES = "TOO_FEW_SAMPLES"
STOPPED_EARLY = "STOPPED_EARLY"
NO_SIGNIFICANT_GAIN = "NO_SIGNIFICANT_GAIN"
EFFECT_TOO_SMALL = "EFFECT_TOO_SMALL"


@dataclass(frozen=True)
class Decision:
    """What the gate decided and the figures that it decided on."""

    passed: bool
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]


def alpha_of_look(alpha: float, look: int) -> float:
    """Share of alpha that the look spends: alpha / (look (look + 1)), which sums to alpha.

    look counts from 1 the candidates that one suite judged against one baseline, so trying
    again and again until a lucky one passes does not raise the error above alpha.
    """
    return alpha / (look * (look + 1))


def seed_of(suite_hash: str, baseline_release_id: str, candidate_release_id: str) -> int:
    """Seed of the drawn permutations, from recorded facts so that anyone can draw them again."""
    joined = "\n".join([suite_hash, baseline_release_id, candidate_release_id])
    return int.from_bytes(hashlib.sha256(joined.encode()).digest()[:8], "big")


def judge(pairs: Sequence[Pair], rules: GateRules, alpha: float, seed: int) -> Decision:
    """Refuses unless the gain is significant, large enough, and nothing else got worse.

    alpha: level of this look. The reasons are in the order of the checks.
    """
    scores = _score_comparisons(pairs, rules, alpha, seed)
    comparisons = (
        *scores,
        *_stopped(pairs),
        *metrics.informative(pairs),
        *metrics.regressions(pairs, rules),
    )
    reasons = tuple(entry.reason for entry in comparisons if not entry.passed)
    return Decision(passed=not reasons, reasons=reasons, comparisons=comparisons)


def _both_answered(pair: Pair) -> bool:
    return not (pair.baseline.failed or pair.candidate.failed or pair.candidate.assumed)


def _stopped(pairs: Sequence[Pair]) -> tuple[Comparison, ...]:
    """A suite that was not asked to its end never passes: assumed results only refuse."""
    asked = sum(not pair.candidate.assumed for pair in pairs)
    if asked == len(pairs):
        return ()
    return (Comparison("asked", len(pairs), asked, len(pairs), False, STOPPED_EARLY),)


def _score_comparisons(
    pairs: Sequence[Pair], rules: GateRules, alpha: float, seed: int
) -> tuple[Comparison, ...]:
    baseline = metrics.mean([pair.baseline_score for pair in pairs])
    candidate = metrics.mean([pair.candidate_score for pair in pairs])
    answered = sum(map(_both_answered, pairs))
    p_value = sign_flip_p_value(
        [pair.candidate_score - pair.baseline_score for pair in pairs], seed
    )
    return (
        Comparison(
            "samples", len(pairs), answered, rules.min_samples,
            answered >= rules.min_samples, TOO_FEW_SAMPLES,
        ),
        Comparison(
            "score", baseline, candidate, alpha, p_value < alpha, NO_SIGNIFICANT_GAIN, p_value
        ),
        Comparison(
            "score_gain", baseline, candidate, rules.min_effect,
            candidate - baseline >= rules.min_effect, EFFECT_TOO_SMALL,
        ),
    )  # fmt: skip
