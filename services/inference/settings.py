"""Inference's own settings, read from TIDEMILL_INFERENCE_* once at start."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class InferenceSettings(BaseSettings):
    """Bounds and prices; the defaults suit a laptop."""

    model_config = SettingsConfigDict(env_prefix="TIDEMILL_INFERENCE_", extra="ignore", frozen=True)

    top_k: int = Field(default=2, ge=1, le=8)
    """Chunks in a prompt."""
    relevance_threshold: float = Field(default=0.30, ge=-1.0, le=1.0)
    """Cosine similarity of the best chunk below which a question is refused unasked; measured in
    docs/decisions/0008-prompt-and-refusal.md."""
    default_output_tokens: int = Field(default=96, ge=1, le=512)
    concurrent: int = Field(default=8, ge=1)
    """Answers that the model works on at the same time."""
    waiting: int = Field(default=32, ge=0)
    """Questions that may wait for their turn; one more is refused with OVERLOADED."""
    wait_seconds: float = Field(default=20.0, gt=0)
    """Longest wait for a turn."""
    retrieval_seconds: float = Field(default=5.0, gt=0)
    """Deadline of one call to embedder or retriever."""
    first_token_seconds: float = Field(default=30.0, gt=0)
    answer_seconds: float = Field(default=110.0, gt=0)
    """Deadline of a whole answer, its wait included."""
    model_repository: Path | None = None
    """Folder that the model server at TIDEMILL_TRITON reads its models from; needed to add
    adapters to it. The model server that `tidemill up` starts is found under home."""
    input_price_micros: int = Field(default=150, ge=0)
    """Price of 1,000 input tokens in millionths of the accounting currency."""
    output_price_micros: int = Field(default=600, ge=0)
    """Price of 1,000 output tokens in millionths of the accounting currency."""
