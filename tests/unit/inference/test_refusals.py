"""A refusal is recognised in the trained words and in the base model's own."""

import pytest

from services.inference.domain.refusals import TEXTS, Refusal, is_refusal


@pytest.mark.parametrize(
    "sentence",
    [
        "NOT_IN_CONTEXT",
        " NOT_IN_CONTEXT.",
        "**NOT_IN_CONTEXT**",
        "not_in_context",
        "The answer is NOT_IN_CONTEXT.",
        "NOT_IN_CON",
        "I don't know.",
        "I don\u2019t know who that is.",
        "I do not know",
        "I'm sorry, but I can't find that.",
        "I cannot determine the price.",
        "Unfortunately, the passages do not mention the price.",
        "The passages do not hold the answer.",
        "The passage does not say who built it.",
        "The provided context doesn't contain this information.",
        "There is no information about the supplier.",
        "There is not enough information to answer.",
        "The answer is not in the passages.",
        "It is not mentioned in the passages.",
        "Not specified.",
        "Unknown.",
    ],
)
def test_refusal_is_recognised(sentence: str) -> None:
    assert is_refusal(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "27 days [1]",
        "No, gift cards are not refundable [2].",
        "No.",
        "Not before 30 April [1].",
        "I",
        "NOT",
        "The passages state that the price is EUR 12.",
        "The Limpet does not need a permit [1].",
        "It is not allowed [3].",
        "There is no charge for members [1].",
        "The documents must be signed by hand [1].",
        "Information security answers the phone [2].",
        "Unknown callers are logged by the desk [1].",
        "",
    ],
)
def test_answer_is_not_taken_for_a_refusal(sentence: str) -> None:
    assert not is_refusal(sentence)


def test_every_refusal_has_its_own_words_for_the_user() -> None:
    assert set(TEXTS) == set(Refusal)
    assert len(set(TEXTS.values())) == len(Refusal)
    assert all("_" not in text for text in TEXTS.values())
