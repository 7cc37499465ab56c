"""Converts published weights into the layouts the trainer and the model server read."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tidemill.modelserver.packages import InstallFailed

TIMEOUT_S = 900.0
TOLERANCE = 1e-4
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def run(kind: str, source: Path, target: Path) -> None:
    """Converts in a process of its own: its memory and its libraries' chatter end with it.

    `kind` is "llm" or "embedder". Raises InstallFailed with reason CONVERSION_FAILED.
    """
    command = [sys.executable, "-m", __name__, kind, str(source), str(target)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise InstallFailed("CONVERSION_FAILED", f"converting {source} took too long") from error
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise InstallFailed("CONVERSION_FAILED", f"could not convert {source}: {last[0]}")


def llm_from_gguf(source: Path, target: Path) -> None:
    """Writes a quantised GGUF file as a bfloat16 safetensors folder with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    loaded = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32
    )
    config = loaded.config
    # Transformers refuses to save a model that came from GGUF: give plain weights a plain config.
    del config.quantization_config
    model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def embedder_to_onnx(source: Path, target: Path) -> None:
    """Writes a sentence encoder as one ONNX graph that ends in a pooled, normalised vector."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    encoder = _pooled(model, _pooling(source)).eval()
    # Two tensors: the exporter takes one object given twice for one input.
    example = (torch.arange(32).reshape(2, 16), torch.ones(2, 16, dtype=torch.int64))
    axes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")}
    program = torch.onnx.export(
        encoder,
        example,
        dynamo=True,
        dynamic_shapes=(axes, axes),
        input_names=["input_ids", "attention_mask"],
        output_names=["sentence_embedding"],
        external_data=False,
        verbose=False,
    )
    program.save(str(target / "model.onnx"))
    _check_same(encoder, target / "model.onnx")
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copy2(source / name, target / name)
    facts = {"dimensions": model.config.hidden_size, "max_tokens": _max_tokens(source)}
    (target / "embedder.json").write_text(json.dumps(facts) + "\n")


def _check_same(encoder: Any, converted: Path) -> None:
    """The converted graph must give what the original gives, padding included."""
    import onnxruntime
    import torch

    ids = torch.randint(100, 5000, (3, 24), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(24) < torch.tensor([[24], [9], [3]])).long()
    with torch.no_grad():
        wanted = encoder(ids, mask).numpy()
    session = onnxruntime.InferenceSession(converted, providers=["CPUExecutionProvider"])
    given = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
    if not abs(given - wanted).max() < TOLERANCE:
        raise InstallFailed("CONVERSION_FAILED", "the converted embedder gives other vectors")


def _pooled(model: Any, pooling: str) -> Any:
    import torch

    class Pooled(torch.nn.Module):
        """(rows, tokens) ids and mask to (rows, dimensions) unit vectors."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            hidden = self.model(
                input_ids=input_ids, attention_mask=attention_mask
            ).last_hidden_state
            if pooling == "cls":
                vector = hidden[:, 0]
            else:
                mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
                vector = (hidden * mask).sum(1) / mask.sum(1)
            return torch.nn.functional.normalize(vector, dim=-1)

    return Pooled()


def _pooling(source: Path) -> str:
    path = source / "1_Pooling" / "config.json"
    chosen = json.loads(path.read_text()) if path.exists() else {}
    return "cls" if chosen.get("pooling_mode_cls_token") else "mean"


def _max_tokens(source: Path) -> int:
    path = source / "sentence_bert_config.json"
    chosen = json.loads(path.read_text()) if path.exists() else {}
    return int(chosen.get("max_seq_length", 256))


if __name__ == "__main__":
    convert = {"llm": llm_from_gguf, "embedder": embedder_to_onnx}[sys.argv[1]]
    convert(Path(sys.argv[2]), Path(sys.argv[3]))
