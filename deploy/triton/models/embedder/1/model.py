"""Triton model: texts to pooled, normalised sentence vectors with ONNX Runtime."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Texts (n, 1) in, float32 vectors (n, dimensions) out, each with the name and the version of
    the model (n, 2); requests are run as one batch."""

    def initialize(self, args: dict[str, str]) -> None:
        from tokenizers import Tokenizer

        parameters = json.loads(args["model_config"])["parameters"]
        folder = Path(parameters["model"]["string_value"])
        facts = json.loads((folder / "embedder.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(facts["max_tokens"])
        self.tokenizer.enable_padding()
        self.session = _session(folder, int(parameters["threads"]["string_value"]))
        names = [parameters[key]["string_value"] for key in ("model_name", "model_version")]
        self.identity = np.array([[name.encode() for name in names]], np.object_)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        batches = [
            pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy().reshape(-1)
            for request in requests
        ]
        texts = [text for batch in batches for text in batch]
        vectors = self._embed([text.decode("utf-8", "replace") for text in texts])
        responses, start = [], 0
        for batch in batches:
            rows = vectors[start : start + len(batch)]
            vector = pb_utils.Tensor("embedding", np.ascontiguousarray(rows))
            model = pb_utils.Tensor("embedding_model", self.identity.repeat(len(batch), axis=0))
            responses.append(pb_utils.InferenceResponse([vector, model]))
            start += len(batch)
        return responses

    def _embed(self, texts: list[str]) -> np.ndarray:
        encoded = self.tokenizer.encode_batch(texts)
        feeds = {
            "input_ids": np.array([item.ids for item in encoded], np.int64),
            "attention_mask": np.array([item.attention_mask for item in encoded], np.int64),
        }
        return np.asarray(self.session.run(["sentence_embedding"], feeds)[0], np.float32)


def _session(folder: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning threads would starve the other processes of a small machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
