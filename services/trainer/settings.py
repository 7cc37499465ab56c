"""The trainer's own settings, read from TIDEMILL_TRAINER_* once at start."""

import re
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class TrainerSettings(BaseSettings):
    """When to train, on what, and within which bounds; the recipe is in the domain."""

    model_config = SettingsConfigDict(env_prefix="TIDEMILL_TRAINER_", extra="ignore", frozen=True)

    min_feedback: int = Field(default=96, ge=1)
    """New usable feedback of a tenant that starts a run."""
    quiet_seconds: float = Field(default=3.0, ge=0)
    """No feedback may have come for so long, so that a burst becomes one run."""
    overdue_seconds: float = Field(default=600.0, ge=0)
    """A stream of feedback that never pauses is trained on after so long."""
    max_examples: int = Field(default=160, ge=1, le=10_000)
    """Examples of one run; the newest count."""
    max_user_share: float = Field(default=0.25, gt=0, le=1)
    """Share of a run's examples that one user may give; 1 switches the cap off."""
    wait_hours: float = Field(default=24.0, gt=0)
    """How long feedback waits for its answer before it is given up."""
    attempts: int = Field(default=3, ge=1, le=10)
    """Processes that may fail on one run before it is given up; each resumes the last."""
    retry_seconds: float = Field(default=5.0, ge=0)
    """Pause before the second try; it doubles with each."""
    run_seconds: float = Field(default=3_600.0, gt=0)
    """Longest time of one process."""
    stall_seconds: float = Field(default=300.0, gt=0)
    """Longest time without a finished step."""
    poll_seconds: float = Field(default=1.0, gt=0, lt=30)
    trains: bool = True
    """False leaves training to jobs (python -m services.train): the service collects and plans."""
    niceness: int = Field(default=10, ge=0, le=19)
    """By how much training gives way to serving on the same processors."""
    threads: int = Field(default=0, ge=0)
    """Threads of a run; 0 means one a processor."""
    processes: int = Field(default=1, ge=1, le=64)
    """That train a run together on each machine; with GPUs, one for each."""
    machines: int = Field(default=1, ge=1, le=64)
    """That train a run together, each with a job of its own (python -m services.train)."""
    machine: int = Field(default=0, ge=0)
    """Number of this one; 0 leads."""
    meeting: str = ""
    """host:port of machine 0, where the processes of all machines find each other."""
    seed: int = 0
    epochs: int = Field(default=1, ge=1, le=20)
    preference_steps: int = Field(default=2, ge=0, le=100)
    """Steps of preference training after the supervised ones, where there are pairs."""
    tracking: str = ""
    """MLflow store; empty means an SQLite file under home, "off" none."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.min_feedback > self.max_examples:
            raise ValueError("min_feedback above max_examples would never start a run")
        if self.machine >= self.machines:
            raise ValueError("machine counts from 0 and must be below machines")
        if self.machines > 1 and not re.fullmatch(r".+:\d+", self.meeting):
            raise ValueError("several machines need meeting: host:port of machine 0")
        if self.machines > 1 and self.trains:
            raise ValueError("several machines train by jobs alone: set trains to false")
        return self
