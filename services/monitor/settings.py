"""Rules of the watches; every default works, every bound is checked at start."""

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class AlarmRate(BaseModel):
    """How often a watch may test, and how many false alarms all its tests of a day may raise."""

    model_config = ConfigDict(frozen=True)

    false_alarms_per_day: float = Field(default=0.05, gt=0, le=1)
    burst_tests: int = Field(default=96, ge=1)
    tests_per_hour: float = Field(default=2.0, ge=0)

    @property
    def alpha(self) -> float:
        """Level of one test: the tests of any 24 hours together stay within the promise."""
        return self.false_alarms_per_day / (self.burst_tests + 24 * self.tests_per_hour)


class DriftRules(AlarmRate):
    """Drift of question embeddings."""

    reference: int = Field(default=100, ge=20, le=1_000)
    """First questions of a tenant; later ones are compared with them."""
    window: int = Field(default=30, ge=10, le=500)
    """Latest questions that are compared."""
    stride: int = Field(default=10, ge=1)
    """New questions between two tests."""
    min_effect: float = Field(default=0.01, ge=0)
    """Least squared kernel distance; the reference's own unevenness may raise it."""
    permutations: int = Field(default=9_999, ge=99, le=99_999)


class ShareRules(AlarmRate):
    """Share of refusals, errors, thumbs down or slow answers of one release."""

    reference: int = Field(default=100, ge=10)
    """First answers of a release; thumbs use two fifths of it."""
    window: int = Field(default=50, ge=10)
    """Least answers of a test; thumbs use two fifths of it."""
    min_rise: float = Field(default=0.10, ge=0, le=1)
    normal_error_share: float = Field(default=0.05, gt=0, lt=1)
    slow_seconds: float = Field(default=30.0, gt=0)
    normal_slow_share: float = Field(default=0.05, gt=0, lt=1)
    """An answer slower than slow_seconds is slow; more than this share is an alert."""


class Settings(BaseSettings):
    """Read once from TIDEMILL_MONITOR_*, for example TIDEMILL_MONITOR_DRIFT_WINDOW."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEMILL_MONITOR_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        frozen=True,
        extra="ignore",
    )

    drift: DriftRules = DriftRules()
    share: ShareRules = ShareRules()
    poll_seconds: float = Field(default=1.0, gt=0, lt=30)
    keep_answers_days: float = Field(default=30.0, gt=0)
    """Answers are kept so long for their feedback and against second deliveries."""
    max_tenant_labels: int = Field(default=100, ge=1)
    """Tenants shown by name on the Prometheus endpoint; the rest are "other"."""
