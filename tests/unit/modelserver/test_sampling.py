"""Sampling parameters in vLLM's vocabulary and the choice of tokens."""

import pytest
import torch


def parsed(**given: object):  # type: ignore[no-untyped-def]
    from cpu_engine.sampling import parse

    return parse(given)


def test_defaults_and_text_numbers_are_read_as_vllm_reads_them() -> None:
    params = parsed(max_tokens="7", temperature="0", stop="end", seed=3)
    assert (params.max_tokens, params.temperature, params.stop, params.seed) == (
        7,
        0.0,
        ("end",),
        3,
    )
    assert parsed().temperature == 1.0
    assert parsed().max_tokens == 16


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"magic": 1}, "Unexpected keyword argument 'magic'"),
        ({"n": 2}, "n is not supported"),
        ({"structured_outputs": "{}"}, "structured_outputs is not supported"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "wrong type"),
        ({"min_tokens": 9, "max_tokens": 3}, "min_tokens"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(given: dict[str, object], message: str) -> None:
    from cpu_engine.sampling import InvalidSampling

    with pytest.raises(InvalidSampling, match=message):
        parsed(**given)


def test_neutral_values_of_unsupported_parameters_are_accepted() -> None:
    assert parsed(n=1, presence_penalty=0.0, logprobs=None)


def chosen(logits: list[float], seed: int = 0, **given: object) -> set[int]:
    """The tokens that come up in many draws."""
    from cpu_engine.sampling import choose

    generator = torch.Generator().manual_seed(seed)
    params = parsed(**given)
    row = torch.tensor(logits)
    return {choose(row, params, [0], generator) for _ in range(200)}


def test_truncation_keeps_only_the_likely_tokens() -> None:
    logits = [4.0, 3.0, 2.0, -9.0]
    assert chosen(logits, temperature=0.0) == {0}
    assert chosen(logits, top_k=2) == {0, 1}
    assert chosen(logits, top_p=0.6) == {0}
    assert chosen(logits, min_p=0.3) == {0, 1}
    assert chosen(logits) == {0, 1, 2}


def test_the_repetition_penalty_makes_seen_tokens_less_likely() -> None:
    assert chosen([2.0, 1.9], temperature=0.0, repetition_penalty=1.5) == {1}


def test_text_streams_never_take_back_what_they_gave(tiny_model) -> None:  # type: ignore[no-untyped-def]
    from cpu_engine.text import TextStream, load_tokenizer

    tokenizer = load_tokenizer(tiny_model)
    stream = TextStream(tokenizer, ("STOP",))
    given, stopped = [], False
    for token in tokenizer.encode("héllo STAR STOP more").ids:
        text, stopped = stream.push(token)
        given.append(text)
        if stopped:
            break
    assert stopped
    assert "".join(given) == "héllo STAR "
    assert not any("\ufffd" in text for text in given)


def test_what_is_held_back_for_a_stop_string_comes_out_at_the_end(tiny_model) -> None:  # type: ignore[no-untyped-def]
    from cpu_engine.text import TextStream, load_tokenizer

    tokenizer = load_tokenizer(tiny_model)
    stream = TextStream(tokenizer, ("STOP",))
    given = [stream.push(token)[0] for token in tokenizer.encode("a STO").ids]
    assert "".join(given) == "a "
    assert stream.flush() == "STO"
