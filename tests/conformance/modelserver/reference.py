"""Transformers and PEFT as the measure of what the model server must answer."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Logits this near to each other may swap between two ways to sum.
TIE = 1e-3
PROMPTS = tuple(
    "<|im_start|>system\nAnswer from the note only.<|im_end|>\n<|im_start|>user\n"
    f"Note: {note}\n\nQuestion: {question}<|im_end|>\n<|im_start|>assistant\n"
    for note, question in (
        ("The ferry leaves at nine from pier four.", "When does the ferry leave?"),
        ("Mill keys hang behind the blue door.", "Where do the mill keys hang?"),
        ("Refunds are paid within 14 days.", "How long do refunds take?"),
        ("Priya Raman leads the night crew of 38 people.", "Who leads the night crew?"),
        ("Hold the recessed button for 12 seconds.", "How long must the button be held?"),
        ("The granary opens on Tuesday and Friday.", "On which days does it open?"),
        ("A licence costs 250 euros a year.", "What does a licence cost?"),
        ("The sluice is checked every six weeks.", "How often is the sluice checked?"),
        ("Visitors must wear a yellow vest.", "What must visitors wear?"),
        ("The archive keeps letters for ten years.", "How long are letters kept?"),
    )
)


class Reference:
    """Judges greedy answers in float32."""

    def __init__(self, model: Path, adapter: Path) -> None:
        self.adapter = adapter
        with third_party_warnings_ignored():
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer

            torch.set_num_threads(1)
            self._tokenizer = AutoTokenizer.from_pretrained(model)
            base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
            self._model = make_adapter(base, adapter, seed=11).eval()

    def would_say(self, prompt: str, answer: str, *, adapted: bool) -> bool:
        """Whether every token of the answer is the likeliest after those before it.

        One pass over the whole text stands for generating it token by token.
        """
        import torch

        self._model.base_model.enable_adapter_layers()
        if not adapted:
            self._model.base_model.disable_adapter_layers()
        start = len(self._tokenizer(prompt).input_ids)
        tokens = self._tokenizer(prompt + answer, return_tensors="pt").input_ids
        with torch.inference_mode():
            logits = self._model(input_ids=tokens).logits[0, start - 1 : -1]
        chosen = logits.gather(1, tokens[0, start:, None])[:, 0]
        return bool((logits.max(1).values - chosen < TIE).all())

    def other_adapter(self, target: Path, seed: int) -> Path:
        """Another adapter of the same shape with other random weights."""
        import torch
        from safetensors.torch import load_file, save_file

        target.mkdir(parents=True)
        generator = torch.Generator().manual_seed(seed)
        tensors = load_file(self.adapter / "adapter_model.safetensors")
        for name, tensor in tensors.items():
            if "lora_B" in name:
                tensor.normal_(std=0.01, generator=generator)
        save_file(tensors, target / "adapter_model.safetensors", {"format": "pt"})
        config = (self.adapter / "adapter_config.json").read_text()
        (target / "adapter_config.json").write_text(config)
        return target


def make_adapter(base: Any, target: Path, seed: int) -> Any:
    """A PEFT model whose random update is large enough to change answers; saved to `target`."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
    tuned = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=modules))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.01)
    tuned.save_pretrained(target)
    return tuned


def sentence_vectors(model: Path, texts: list[str]) -> Any:
    """Mean-pooled, normalised vectors (texts, dimensions) of the plain Transformers model."""
    with third_party_warnings_ignored():
        import torch
        from transformers import AutoModel, AutoTokenizer

        tokens = AutoTokenizer.from_pretrained(model)(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            hidden = AutoModel.from_pretrained(model)(**tokens).last_hidden_state
        mask = tokens.attention_mask.unsqueeze(-1)
        pooled = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(pooled, dim=-1).numpy()


@contextmanager
def third_party_warnings_ignored() -> Iterator[None]:
    """Warnings at their imports are not ours to mend, and as errors they break them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
