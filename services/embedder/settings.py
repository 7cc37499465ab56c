"""Times of the embedder."""

from pydantic_settings import BaseSettings, SettingsConfigDict


class EmbedderSettings(BaseSettings):
    """Read from TIDEMILL_EMBEDDER_* once, in app."""

    model_config = SettingsConfigDict(env_prefix="TIDEMILL_EMBEDDER_", frozen=True)

    batch_seconds: float = 60.0
    """How long the model server may take for one batch of passages."""
    version_seconds: float = 900.0
    """How long all passages of one document version may take."""
    query_seconds: float = 8.0
    """How long a caller's few texts may take."""
