"""A sentence encoder of the user's replaces the default one: converted, checked and hashed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tidemill.modelserver import weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT in the layout of sentence-transformers, pooled unlike the default one."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=5_000, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=128,
    )  # fmt: skip
    BertModel(config).eval().save_pretrained(folder)
    pooling = folder / "1_Pooling"
    pooling.mkdir()
    (pooling / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_it_is_converted_to_the_vectors_it_gave_before(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime
    from transformers import BertModel

    monkeypatch.setenv(weights.EMBEDDING_SETTING, str(encoder))
    monkeypatch.setenv(weights.LLM_SETTING, str(encoder))  # nothing to fetch
    weights.prepare(tmp_path, lambda line: None)
    made = weights.embedder(tmp_path)
    assert made.source == f"folder:{encoder}"
    facts = json.loads((made.folder / "embedder.json").read_text())
    assert facts == {"dimensions": 32, "max_tokens": 64}

    ids = torch.arange(200, 224).reshape(2, 12)
    mask = (torch.arange(12) < torch.tensor([[12], [5]])).long()
    with torch.no_grad():
        model = BertModel.from_pretrained(encoder).eval()
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    wanted = torch.nn.functional.normalize(hidden[:, 0], dim=-1).numpy()
    session = onnxruntime.InferenceSession(made.folder / "model.onnx")
    (given,) = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    np.testing.assert_allclose(given, wanted, atol=1e-4)


def test_a_changed_encoder_is_another_model(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights.external(encoder).version
    copy = tmp_path / "changed"
    copy.mkdir()
    for path in encoder.glob("*.*"):
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "config.json").write_text((encoder / "config.json").read_text() + " ")
    assert weights.external(copy).version != before
    monkeypatch.setenv(weights.EMBEDDING_SETTING, str(copy))
    with pytest.raises(weights.WeightsFailed, match="no model"):
        weights.embedder(tmp_path)
