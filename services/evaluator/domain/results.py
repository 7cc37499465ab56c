"""What one release did on one sample, and the score that gates on it."""

from dataclasses import dataclass

from services.evaluator.domain import scoring
from services.evaluator.domain.suites import Sample


@dataclass(frozen=True)
class Answer:
    """What came back over the serving path; duration in seconds."""

    answer_id: str
    text: str
    refused: bool
    cited_document_ids: tuple[str, ...]
    duration_seconds: float
    cost_micros: int


@dataclass(frozen=True)
class SampleResult:
    """The facts of one sample; everything that the gate looks at."""

    answer_id: str = ""
    failed: bool = False
    error_reason: str = ""
    refused: bool = False
    exact_match: float = 0.0
    f1: float = 0.0
    rouge_l: float = 0.0
    citation_correct: bool = False
    duration_seconds: float = 0.0
    cost_micros: int = 0
    assumed: bool = False
    """The sample was not asked; this is the best that it could have brought."""


def score_answer(sample: Sample, answer: Answer) -> SampleResult:
    """Scores an answer; a refusal has no text to score."""
    said = "" if answer.refused else answer.text
    scored = sample.answerable and not answer.refused
    return SampleResult(
        answer_id=answer.answer_id,
        refused=answer.refused,
        exact_match=scoring.exact_match(said, sample.answer) if scored else 0.0,
        f1=scoring.token_f1(said, sample.answer) if scored else 0.0,
        rouge_l=scoring.rouge_l(said, sample.answer) if scored else 0.0,
        citation_correct=scored
        and scoring.citation_correct(answer.cited_document_ids, sample.document_ids),
        duration_seconds=answer.duration_seconds,
        cost_micros=answer.cost_micros,
    )


def failed_result(error_reason: str) -> SampleResult:
    """The sample got no answer after every retry."""
    return SampleResult(failed=True, error_reason=error_reason)


def best_result(sample: Sample) -> SampleResult:
    """Right, cited or rightly refused, in no time and at no cost: no answer scores more."""
    right = float(sample.answerable)
    return SampleResult(
        refused=not sample.answerable,
        exact_match=right,
        f1=right,
        rouge_l=right,
        citation_correct=sample.citable,
        assumed=True,
    )


def primary_score(answerable: bool, result: SampleResult) -> float:
    """Word F1 of an answer; 1 for the refusal of an unanswerable question; else 0.

    One figure for both kinds: a release cannot gain by refusing everything or by guessing at
    everything. F1 rather than exact match, because an answer that is right but longer is worth
    something, and half-points give the paired test more power on small suites.
    """
    if result.failed:
        return 0.0
    if not answerable:
        return float(result.refused)
    return 0.0 if result.refused else result.f1


@dataclass(frozen=True)
class Pair:
    """One sample under both releases."""

    sample_id: str
    answerable: bool
    citable: bool
    baseline: SampleResult
    candidate: SampleResult

    @property
    def baseline_score(self) -> float:
        """A sample that the baseline failed on counts against the candidate, never for it."""
        if self.baseline.failed:
            return 1.0
        return primary_score(self.answerable, self.baseline)

    @property
    def candidate_score(self) -> float:
        return primary_score(self.answerable, self.candidate)


def pair_of(sample: Sample, baseline: SampleResult, candidate: SampleResult) -> Pair:
    """Both results with what the gate needs to know of their sample."""
    return Pair(sample.sample_id, sample.answerable, sample.citable, baseline, candidate)
