"""The CPU engine on a tiny model: batches, chunks, prefixes and adapters change no result."""

import json
import shutil
from pathlib import Path

import pytest
import torch


def open_tiny(tiny_model: Path, cached_tokens: int = 0):  # type: ignore[no-untyped-def]
    from cpu_engine.engine import DecoderEngine

    return DecoderEngine(tiny_model, torch.float32, cached_tokens)


def started(engine, text: str, adapter: str | None = None):  # type: ignore[no-untyped-def]
    from cpu_engine.engine import Progress

    progress = Progress([ord(letter) for letter in text], adapter, capacity=200)
    engine.open(progress)
    return progress


def plain_logits(tiny_model: Path, tokens: list[int], merged: dict[str, torch.Tensor]):  # type: ignore[no-untyped-def]
    """Textbook Llama attention over the whole sequence, written without any of our code."""
    from safetensors.torch import load_file

    w = load_file(tiny_model / "model.safetensors")
    w = {name: tensor + merged.get(name, 0) for name, tensor in w.items()}
    count, size = len(tokens), 8

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * w[name]

    angles = torch.outer(torch.arange(count).float(), 10000.0 ** -(torch.arange(0, size, 2) / size))
    cosine, sine = torch.cat((angles, angles), -1).cos(), torch.cat((angles, angles), -1).sin()

    def heads(x: torch.Tensor, number: int, *, turn: bool) -> torch.Tensor:
        x = x.view(count, number, size).transpose(0, 1)
        if turn:
            x = x * cosine + torch.cat((-x[..., size // 2 :], x[..., : size // 2]), -1) * sine
        return x

    x = w["model.embed_tokens.weight"][tokens]
    hidden = torch.ones(count, count).triu(1).bool()
    for layer in range(2):
        p = f"model.layers.{layer}."
        n = norm(x, p + "input_layernorm.weight")
        q = heads(n @ w[p + "self_attn.q_proj.weight"].T, 4, turn=True)
        k = heads(n @ w[p + "self_attn.k_proj.weight"].T, 2, turn=True).repeat_interleave(2, 0)
        v = heads(n @ w[p + "self_attn.v_proj.weight"].T, 2, turn=False).repeat_interleave(2, 0)
        scores = (q @ k.transpose(1, 2) / size**0.5).masked_fill(hidden, -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(count, -1)
        x = x + mixed @ w[p + "self_attn.o_proj.weight"].T
        n = norm(x, p + "post_attention_layernorm.weight")
        gate = torch.nn.functional.silu(n @ w[p + "mlp.gate_proj.weight"].T)
        x = x + (gate * (n @ w[p + "mlp.up_proj.weight"].T)) @ w[p + "mlp.down_proj.weight"].T
    return norm(x[-1], "model.norm.weight") @ w["model.embed_tokens.weight"].T


def merged(adapter: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    tensors = load_file(adapter / "adapter_model.safetensors")
    names = {name.rsplit(".lora_", 1)[0] for name in tensors}
    return {
        name.removeprefix("base_model.model.") + ".weight": 2.0
        * tensors[f"{name}.lora_B.weight"]
        @ tensors[f"{name}.lora_A.weight"]
        for name in names
    }


def test_logits_match_textbook_attention(tiny_model: Path) -> None:
    engine = open_tiny(tiny_model)
    progress = started(engine, "the mill turns")
    given = engine.step([(progress, len(progress.tokens))])[0]
    torch.testing.assert_close(given, plain_logits(tiny_model, progress.tokens, {}))


def test_an_adapter_equals_its_merged_weights(tiny_model: Path, tiny_adapter: Path) -> None:
    engine = open_tiny(tiny_model)
    engine.add_adapter("a", tiny_adapter)
    progress = started(engine, "the mill turns", "a")
    given = engine.step([(progress, len(progress.tokens))])[0]
    wanted = plain_logits(tiny_model, progress.tokens, merged(tiny_adapter))
    torch.testing.assert_close(given, wanted, atol=1e-3, rtol=1e-3)


def test_mixed_batches_and_chunked_prompts_change_no_logits(
    tiny_model: Path, tiny_adapter: Path
) -> None:
    engine = open_tiny(tiny_model)
    engine.add_adapter("a", tiny_adapter)
    texts = [("first prompt", None), ("second", "a"), ("third and longest one", None), ("x", "a")]
    alone = []
    for text, adapter in texts:
        progress = started(engine, text, adapter)
        alone.append(engine.step([(progress, len(progress.tokens))])[0])
    together = [started(engine, text, adapter) for text, adapter in texts]
    engine.step([(progress, 1) for progress in together if len(progress.tokens) > 1])
    rest = [(p, len(p.tokens) - p.computed) for p in together]
    torch.testing.assert_close(engine.step(rest), torch.stack(alone), atol=1e-4, rtol=1e-4)


def test_a_known_beginning_is_reused_without_changing_logits(tiny_model: Path) -> None:
    engine = open_tiny(tiny_model, cached_tokens=1024)
    first = started(engine, "a shared system prompt of some length; first")
    engine.step([(first, len(first.tokens))])
    second = started(engine, "a shared system prompt of some length; second")
    assert second.computed == 32
    given = engine.step([(second, len(second.tokens) - second.computed)])[0]
    torch.testing.assert_close(given, plain_logits(tiny_model, second.tokens, {}))


def test_a_beginning_is_not_shared_between_adapters(tiny_model: Path, tiny_adapter: Path) -> None:
    engine = open_tiny(tiny_model, cached_tokens=1024)
    engine.add_adapter("a", tiny_adapter)
    base = started(engine, "a shared system prompt of some length")
    engine.step([(base, len(base.tokens))])
    assert started(engine, "a shared system prompt of some length", "a").computed == 0


def test_an_identical_prompt_still_computes_its_last_token(tiny_model: Path) -> None:
    engine = open_tiny(tiny_model, cached_tokens=1024)
    text = "sixteen letters."
    first = started(engine, text)
    engine.step([(first, len(first.tokens))])
    assert started(engine, text).computed < len(text)


def test_the_cache_forgets_what_was_used_least_recently() -> None:
    from cpu_engine.prefix_cache import BLOCK, PrefixCache

    cache = PrefixCache(blocks=2)
    memory = torch.zeros(1, 2, 1, 64, 4)
    prompts = [[number] * (BLOCK + 1) for number in range(3)]
    cache.write("o", prompts[0], memory)
    cache.write("o", prompts[1], memory)
    assert cache.read("o", prompts[0], memory) == BLOCK
    cache.write("o", prompts[2], memory)
    assert cache.read("o", prompts[1], memory) == 0
    assert cache.read("o", prompts[0], memory) == BLOCK


@pytest.mark.parametrize(
    "change",
    [{"peft_type": "IA3"}, {"use_dora": True}, {"bias": "all"}, {"rank_pattern": {"q_proj": 2}}],
)
def test_adapters_beyond_plain_lora_are_refused(
    tiny_model: Path, tiny_adapter: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    from cpu_engine.adapters import InvalidAdapter

    folder = tmp_path / "adapter"
    shutil.copytree(tiny_adapter, folder)
    config = json.loads((folder / "adapter_config.json").read_text()) | change
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidAdapter):
        open_tiny(tiny_model).add_adapter("a", folder)


def test_damaged_adapter_files_are_refused(
    tiny_model: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    from cpu_engine.adapters import InvalidAdapter

    folder = tmp_path / "adapter"
    shutil.copytree(tiny_adapter, folder)
    (folder / "adapter_model.safetensors").write_bytes(b"not a tensor file")
    with pytest.raises(InvalidAdapter):
        open_tiny(tiny_model).add_adapter("a", folder)


def test_an_unknown_architecture_is_left_to_the_general_engine(
    tiny_model: Path, tmp_path: Path
) -> None:
    from cpu_engine.decoder import UnsupportedModel, read_shape

    config = json.loads((tiny_model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["MambaModel"]}))
    with pytest.raises(UnsupportedModel):
        read_shape(tmp_path)


def test_bfloat16_answers_nearly_as_float32(tiny_model: Path) -> None:
    """Slow without hardware for it, but right."""
    from cpu_engine.engine import DecoderEngine

    exact, short = open_tiny(tiny_model), DecoderEngine(tiny_model, torch.bfloat16, 0)
    text = "the mill turns"
    rows = [engine.step([(started(engine, text), len(text))])[0] for engine in (exact, short)]
    assert torch.nn.functional.cosine_similarity(rows[0], rows[1], dim=0) > 0.999
