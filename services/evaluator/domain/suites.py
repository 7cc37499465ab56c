"""Held-out suites: samples, their rules and their content hash."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

MIN_SAMPLES = 20
MAX_SAMPLES = 2_000
MAX_QUESTION = 2_000
MAX_ID = 128


@dataclass(frozen=True)
class Sample:
    """A question with its right answer; an empty answer means that it should be refused."""

    sample_id: str
    question: str
    answer: str
    document_ids: tuple[str, ...] = ()

    @property
    def answerable(self) -> bool:
        return bool(self.answer)

    @property
    def citable(self) -> bool:
        return self.answerable and bool(self.document_ids)


class SuiteInvalid(Exception):
    """Names the field that breaks a rule."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


def check_suite(suite_id: str, samples: Sequence[Sample]) -> None:
    """Raises SuiteInvalid on the first broken rule."""
    _require(0 < len(suite_id) <= MAX_ID, "suite_id")
    _require(MIN_SAMPLES <= len(samples) <= MAX_SAMPLES, "samples")
    _require(len({sample.sample_id for sample in samples}) == len(samples), "samples.sample_id")
    for sample in samples:
        _require(0 < len(sample.sample_id) <= MAX_ID, "samples.sample_id")
        _require(0 < len(sample.question.strip()) <= MAX_QUESTION, "samples.question")
        _require(len(sample.answer) <= MAX_QUESTION, "samples.answer")


def _require(holds: bool, field: str) -> None:
    if not holds:
        raise SuiteInvalid(field)


def suite_hash(samples: Sequence[Sample]) -> str:
    """SHA-256 over the samples sorted by id, hexadecimal; their order does not count."""
    ordered = sorted(samples, key=lambda sample: sample.sample_id)
    rows = [asdict(sample) | {"document_ids": sorted(sample.document_ids)} for sample in ordered]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
