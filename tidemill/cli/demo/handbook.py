"""The example handbook: documents, and questions split into a feedback pool and a held-out set."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from tidemill.cli.output import CommandFailed

DEFAULT_FOLDER = Path(__file__).resolve().parents[3] / "examples" / "handbook"
OTHER_DOMAIN = 50
"""Enough for the drift watch to fill its window with them more than once."""
LATER_POOLS = 2
"""A small model's first adapter may fail its gate by chance; more feedback is the cure."""


@dataclass(frozen=True)
class HandbookDocument:
    """A document as it is submitted."""

    document_id: str
    path: Path
    media_type: str
    title: str


@dataclass(frozen=True)
class Question:
    """A question with what a right answer says; an empty answer means that none is to be had."""

    question_id: str
    text: str
    answer: str = ""
    document_id: str = ""


@dataclass(frozen=True)
class Handbook:
    """What the demo works with. later: pools for more feedback, should the gate ask for it."""

    documents: list[HandbookDocument]
    pool: list[Question]
    later: list[list[Question]]
    held_out: list[Question]
    other_domain: list[Question]


def load_handbook(folder: Path, *, seed: int, pool: int, held_out: int) -> Handbook:
    """Read the handbook; the seed chooses which questions of each file take part."""
    if not (folder / "documents.jsonl").exists():
        raise CommandFailed("HANDBOOK_NOT_FOUND", f"no documents.jsonl in {folder}", 2)
    generator = random.Random(seed)
    questions = read_questions(folder / "feedback_pool.jsonl")
    first = sample(generator, questions, pool)
    chosen = sample(generator, read_questions(folder / "held_out.jsonl"), held_out)
    other = sample(generator, read_questions(folder / "other_domain.jsonl"), OTHER_DOMAIN)
    return Handbook(
        documents=[
            HandbookDocument(r["document_id"], folder / r["path"], r["media_type"], r["title"])
            for r in read_lines(folder / "documents.jsonl")
        ],
        pool=first,
        later=later_pools(generator, [q for q in questions if q not in first], pool),
        held_out=chosen,
        other_domain=other,
    )


def later_pools(
    generator: random.Random, questions: list[Question], size: int
) -> list[list[Question]]:
    """Up to LATER_POOLS of that size, no question twice; what is left may not fill them."""
    pools: list[list[Question]] = []
    while len(pools) < LATER_POOLS and len(questions) >= size:
        pools.append(sample(generator, questions, size))
        questions = [question for question in questions if question not in pools[-1]]
    return pools


def sample(generator: random.Random, questions: list[Question], count: int) -> list[Question]:
    """A random choice that keeps the file's share of questions without an answer."""
    answerable = [q for q in questions if q.answer]
    unanswerable = [q for q in questions if not q.answer]
    count = min(count, len(questions))
    share = round(count * len(answerable) / len(questions))
    chosen = generator.sample(answerable, share) + generator.sample(unanswerable, count - share)
    generator.shuffle(chosen)
    return chosen


def read_questions(path: Path) -> list[Question]:
    return [
        Question(r["question_id"], r["question"], r.get("answer", ""), r.get("document_id", ""))
        for r in read_lines(path)
    ]


def read_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
