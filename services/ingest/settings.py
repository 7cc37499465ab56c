"""Limits and times of ingest."""

from pydantic_settings import BaseSettings, SettingsConfigDict


class IngestSettings(BaseSettings):
    """Read from TIDEMILL_INGEST_* once, in app."""

    model_config = SettingsConfigDict(env_prefix="TIDEMILL_INGEST_", frozen=True)

    max_document_bytes: int = 10 * 1024 * 1024
    max_chunks: int = 4_000
    max_pages: int = 500
    """Pages of a PDF."""
    max_expanded_bytes: int = 64 * 1024 * 1024
    """What a DOCX may unpack to."""
    reading_cpu_seconds: int = 30
    """Processor time for one document; a document that needs more is refused."""
    reading_wall_seconds: float = 240.0
    """Wall time for one document; one that needs more is tried again."""
    reading_memory_bytes: int = 1024 * 1024 * 1024
    """Address space of the process that reads."""
    passage_words: int = 80
    """Words that a passage aims at."""
