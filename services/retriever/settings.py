"""Times and bounds of the retriever."""

from pydantic_settings import BaseSettings, SettingsConfigDict


class RetrieverSettings(BaseSettings):
    """Read from TIDEMILL_RETRIEVER_* once, in app."""

    model_config = SettingsConfigDict(env_prefix="TIDEMILL_RETRIEVER_", frozen=True)

    milvus_seconds: float = 10.0
    """How long one call of the vector store may take."""
    index_seconds: float = 300.0
    """How long one document version may take to become searchable."""
    sweep_every_seconds: float = 30.0
    grace_seconds: float = 60.0
    """How long vectors outlive their version: longer than the longest search."""
    staged_grace_seconds: float = 900.0
    """How long vectors of a version that never came into force are kept: longer than index_seconds
    and the bus's retries in hand."""
    max_waiting_searches: int = 256
    """More are refused at once."""
