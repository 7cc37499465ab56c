"""Answers, feedback and a tiny base model."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.trainer.domain.lessons import Lesson
from services.trainer.domain.signals import Answer, Feedback, Kind, Passage
from tests.unit.trainer.tiny_model import make_tiny_model

START = datetime(2031, 3, 3, 9, 0, tzinfo=UTC)
PASSAGES = (
    "Leave > Entitlement: Everyone gets 27 days of annual leave.",
    "Leave > Carrying over: Up to 6 days may be carried until 30 April.",
    "Offices > Harbour: The harbour office opens at 07:45.",
)


@pytest.fixture
def prompt() -> Callable[[str], str]:
    """The prompt of a question over the three passages."""

    def make(question: str) -> str:
        shown = "\n".join(f"[{mark}] {text}" for mark, text in enumerate(PASSAGES, 1))
        user = f"<|im_start|>user\n{shown}\n\nQuestion: {question}<|im_end|>\n"
        return f"<|im_start|>system\nAnswer.<|im_end|>\n{user}<|im_start|>assistant\n"

    return make


@pytest.fixture
def answer(prompt: Callable[[str], str]) -> Callable[..., Answer]:
    """An answer whose chunks c1 and c2 are of the document "leave" and c3 of "offices"."""

    def make(answer_id: str = "ans-1", **changes: Any) -> Answer:
        shown = (
            Passage(1, "c1", "leave"),
            Passage(2, "c2", "leave"),
            Passage(3, "c3", "offices"),
        )
        values = {
            "answer_id": answer_id,
            "user_hash": f"user-of-{answer_id}",
            "prompt": prompt(f"How many days of leave? ({answer_id})"),
            "completion": "There are some days of leave.",
            "passages": shown,
            "refused": False,
        }
        return Answer(**values | changes)

    return make


@pytest.fixture
def feedback() -> Callable[..., Feedback]:
    """feedback(Kind.CORRECTION, minute=3, text=...) on ans-1."""

    def make(kind: Kind, minute: float = 0, **changes: Any) -> Feedback:
        values = {
            "feedback_id": f"fb-{minute}",
            "answer_id": "ans-1",
            "kind": kind,
            "recorded_time": START + timedelta(minutes=minute),
        }
        return Feedback(**values | changes)

    return make


@pytest.fixture
def lesson() -> Callable[..., Lesson]:
    """lesson(7): the seventh, on a prompt and by a user of its own."""

    def make(number: int, **changes: Any) -> Lesson:
        values = {
            "prompt": f"prompt {number}",
            "target": f"target {number} [1]",
            "rejected": "",
            "answer_id": f"ans-{number}",
            "feedback_id": f"fb-{number:03}",
            "user_hash": f"user-{number}",
            "explicit": True,
            "time": START + timedelta(minutes=number),
        }
        return Lesson(**values | changes)

    return make


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture
def examples() -> Callable[[int], str]:
    """JSONL of that many examples over the tiny model's words; every third has a rejected text."""

    def make(count: int) -> str:
        records = (
            {
                "prompt": f"w{n % 60} w{(n * 7) % 60} w{(n * 13) % 60} w5",
                "completion": f"w{n % 60} [ 1 ]",
                "rejected": "w9 w9 w9" if n % 3 == 0 else "",
                "answer_id": f"ans-{n}",
                "feedback_id": f"fb-{n}",
            }
            for n in range(count)
        )
        return "".join(json.dumps(record) + "\n" for record in records)

    return make
