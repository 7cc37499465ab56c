"""Declares the tensors of Triton's vLLM backend; imports nothing heavy."""

from typing import Any

INPUTS = (
    ("text_input", "TYPE_STRING", 1, False),
    ("image", "TYPE_STRING", -1, True),
    ("stream", "TYPE_BOOL", 1, True),
    ("sampling_parameters", "TYPE_STRING", 1, True),
    ("exclude_input_in_output", "TYPE_BOOL", 1, True),
    ("return_finish_reason", "TYPE_BOOL", 1, True),
    ("return_cumulative_logprob", "TYPE_BOOL", 1, True),
    ("return_logprobs", "TYPE_BOOL", 1, True),
    ("return_num_input_tokens", "TYPE_BOOL", 1, True),
    ("return_num_output_tokens", "TYPE_BOOL", 1, True),
    ("embedding_request", "TYPE_STRING", 1, True),
)
OUTPUTS = (
    ("text_output", "TYPE_STRING", -1),
    ("finish_reason", "TYPE_STRING", -1),
    ("cumulative_logprob", "TYPE_FP32", -1),
    ("logprobs", "TYPE_STRING", -1),
    ("num_input_tokens", "TYPE_UINT32", 1),
    ("num_output_tokens", "TYPE_UINT32", -1),
)


def declare(config: Any) -> Any:
    """Adds the tensors that the repository's config leaves out, as the real backend does."""
    given = config.as_dict()
    present = {tensor["name"] for tensor in [*given["input"], *given["output"]]}
    for name, kind, size, optional in INPUTS:
        if name not in present:
            tensor = {"name": name, "data_type": kind, "dims": [size]}
            config.add_input(tensor | ({"optional": True} if optional else {}))
    for name, kind, size in OUTPUTS:
        if name not in present:
            config.add_output({"name": name, "data_type": kind, "dims": [size]})
    config.set_model_transaction_policy({"decoupled": True})
    config.set_max_batch_size(0)
    return config
