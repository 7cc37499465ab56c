"""The engine for every other architecture: Transformers' and PEFT's own answers, in any batch."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

PROMPTS = ([5, 9, 33, 2, 71], [8, 1, 40], [90, 3, 3, 3, 12, 7])


@pytest.fixture(scope="module")
def neox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-NeoX, which our own decoder does not run."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    folder = tmp_path_factory.mktemp("neox")
    torch.manual_seed(5)
    config = GPTNeoXConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=128, initializer_range=0.3,
    )  # fmt: skip
    GPTNeoXForCausalLM(config).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(neox: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two LoRA adapters that change the answers."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    made = {}
    for seed, name in enumerate(("harbor-v1", "harbor-v2")):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules=["query_key_value"], init_lora_weights=False)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(neox), config)
        made[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(made[name])
    return made


def expected(neox: Path, adapter: Path | None, prompt: list[int], count: int) -> list[int]:
    """Greedy tokens by the libraries alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(neox).eval()
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter).eval()
    tokens = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


def open_generic(neox: Path, adapters: dict[str, Path]) -> Any:
    from cpu_engine.engine import open_engine
    from cpu_engine.generic import TransformersEngine

    engine = open_engine(neox, torch.float32, 0)
    assert isinstance(engine, TransformersEngine)
    for name, folder in adapters.items():
        engine.add_adapter(name, folder)
    return engine


def greedy(engine: Any, prompt: list[int]) -> list[int]:
    """The engine's next token."""
    from cpu_engine.engine import Progress

    progress = Progress(list(prompt), None, 64)
    engine.open(progress)
    return [int(engine.step([(progress, len(prompt))])[0].argmax())]


def test_a_mixed_batch_answers_as_each_model_alone(neox: Path, adapters: dict[str, Path]) -> None:
    from cpu_engine.engine import Progress

    engine = open_generic(neox, adapters)
    names = (None, *adapters)
    work = [Progress(list(p), n, 64) for p, n in zip(PROMPTS, names, strict=True)]
    for progress in work:
        engine.open(progress)
    for _ in range(8):
        logits = engine.step([(p, len(p.tokens) - p.computed) for p in work])
        for progress, row in zip(work, logits, strict=True):
            progress.tokens.append(int(row.argmax()))
    for progress, prompt, name in zip(work, PROMPTS, names, strict=True):
        wanted = expected(neox, adapters[name] if name else None, prompt, 8)
        assert progress.tokens[len(prompt) :] == wanted


def test_a_prompt_in_pieces_gives_the_same_logits(neox: Path) -> None:
    from cpu_engine.engine import Progress

    engine = open_generic(neox, {})
    whole, pieces = (Progress(list(PROMPTS[2]), None, 64) for _ in range(2))
    engine.open(whole)
    engine.open(pieces)
    engine.step([(pieces, 4)])
    torch.testing.assert_close(engine.step([(pieces, 2)]), engine.step([(whole, 6)]))


def test_what_is_no_adapter_is_refused_and_harms_nothing(neox: Path, tmp_path: Path) -> None:
    from cpu_engine.adapters import InvalidAdapter

    engine = open_generic(neox, {})
    with pytest.raises(InvalidAdapter):
        engine.add_adapter("broken", tmp_path)
    assert greedy(engine, PROMPTS[0]) == expected(neox, None, PROMPTS[0], 1)
