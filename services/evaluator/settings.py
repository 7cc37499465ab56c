"""Rules of the gate and of the canary; every default works, every bound is checked at start."""

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class GateRules(BaseModel):
    """What a candidate must show on the held-out suite."""

    model_config = ConfigDict(frozen=True)

    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Chance that any candidate no better than its baseline passes, over all looks."""
    min_effect: float = Field(default=0.03, ge=0, le=1)
    """Least mean gain of the primary score."""
    min_samples: int = Field(default=20, ge=1)
    """Least number of pairs in which both releases answered."""
    min_group: int = Field(default=5, ge=1)
    """A regression bound is held only over at least so many samples."""
    max_citation_drop: float = Field(default=0.10, ge=0, le=1)
    max_refusal_drop: float = Field(default=0.10, ge=0, le=1)
    """Right refusals of unanswerable questions, as a share."""
    max_false_refusal_rise: float = Field(default=0.15, ge=0, le=1)
    """Refusals of answerable questions, as a share."""
    regression_alpha: float = Field(default=0.2, gt=0, le=1)
    """A bound on refusals widens to what chance alone does to an unchanged release this often:
    without that, two of ten questions would decide. 1 holds the bounds as they are."""
    max_failed_share: float = Field(default=0.05, ge=0, le=1)
    max_latency_ratio: float = Field(default=1.5, ge=1)
    """95th percentile of the candidate over that of the baseline."""
    latency_floor_seconds: float = Field(default=1.0, ge=0)
    """A candidate faster than this never fails on latency."""
    max_cost_ratio: float = Field(default=1.5, ge=1)
    """Mean cost of an answer over that of the baseline."""


class CanaryRules(BaseModel):
    """What a canary must show on live traffic."""

    model_config = ConfigDict(frozen=True)

    share: float = Field(default=0.25, gt=0, le=0.5)
    """Share of the users that the canary answers."""
    min_answers: int = Field(default=20, ge=1)
    """Least answers of the canary, and of the control, before a promotion."""
    min_seconds: float = Field(default=30.0, ge=0)
    max_seconds: float = Field(default=86_400.0, gt=0)
    """A canary undecided after this time is rolled back."""
    max_answers: int = Field(default=5_000, ge=1)
    """Answers kept of each arm; later ones are not looked at."""
    normal_error_share: float = Field(default=0.02, gt=0, lt=1)
    broken_error_share: float = Field(default=0.20, gt=0, lt=1)
    error_alpha: float = Field(default=0.01, gt=0, lt=1)
    """Chance that a canary with a normal error share is ever rolled back for errors."""
    max_error_gap: float = Field(default=0.05, ge=0, le=1)
    max_refusal_gap: float = Field(default=0.25, ge=0, le=1)
    """On top of the gap that the gate saw on the suite."""
    max_latency_ratio: float = Field(default=2.0, ge=1)
    latency_floor_seconds: float = Field(default=2.0, ge=0)
    max_thumbs_down_gap: float = Field(default=0.25, ge=0, le=1)
    min_thumbs: int = Field(default=5, ge=1)
    """Thumbs are compared once each arm has so many."""


class RunRules(BaseModel):
    """How a suite is run."""

    model_config = ConfigDict(frozen=True)

    concurrency: int = Field(default=8, ge=1, le=64)
    answer_timeout_seconds: float = Field(default=60.0, gt=0, le=120)
    max_output_tokens: int = Field(default=96, ge=1, le=512)
    attempts: int = Field(default=3, ge=1, le=10)
    """Tries of one sample within one run."""
    backoff_seconds: float = Field(default=0.5, ge=0)
    max_runs: int = Field(default=20, ge=1)
    """A run that meets a dependency that is down is continued so many times."""
    rerun_seconds: float = Field(default=15.0, ge=0)
    stop_early: bool = True
    """End a suite once the candidate cannot reach the least gain any more."""
    suite_wait_seconds: float = Field(default=3_600.0, ge=0)
    """A candidate of a tenant without a suite waits so long, then is rejected."""
    poll_seconds: float = Field(default=1.0, gt=0, lt=30)


class ReleaseDefaults(BaseModel):
    """What a release pins besides its adapter and its index.

    Pinned, so that a new default in the code of inference goes through the gate as well.
    """

    model_config = ConfigDict(frozen=True)

    prompt_version: str = "grounded-answer@1"
    guardrail_policy: str = "sentence-guard@1"
    routing_policy: str = "one-model@1"


class Settings(BaseSettings):
    """Read once from TIDEMILL_EVALUATOR_*, for example TIDEMILL_EVALUATOR_CANARY_SHARE."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEMILL_EVALUATOR_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        frozen=True,
        extra="ignore",
    )

    gate: GateRules = GateRules()
    canary: CanaryRules = CanaryRules()
    run: RunRules = RunRules()
    release: ReleaseDefaults = ReleaseDefaults()
