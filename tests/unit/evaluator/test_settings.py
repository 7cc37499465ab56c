"""Settings: usable defaults, names as documented, bounds checked."""

import pytest
from pydantic import ValidationError

from services.evaluator.settings import ReleaseDefaults, Settings
from services.inference.domain.prompts import DEFAULT_PROMPT
from services.inference.domain.releases import GUARDRAIL_POLICY, ROUTING_POLICY


def test_an_empty_environment_works() -> None:
    settings = Settings()
    assert (settings.gate.alpha, settings.gate.min_effect) == (0.05, 0.03)
    assert (settings.canary.share, settings.canary.min_answers) == (0.25, 20)


def test_a_release_pins_what_inference_has_today() -> None:
    assert ReleaseDefaults() == ReleaseDefaults(
        prompt_version=DEFAULT_PROMPT,
        guardrail_policy=GUARDRAIL_POLICY,
        routing_policy=ROUTING_POLICY,
    )


def test_each_rule_has_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_EVALUATOR_CANARY_SHARE", "0.1")
    monkeypatch.setenv("TIDEMILL_EVALUATOR_GATE_MAX_CITATION_DROP", "0.02")
    monkeypatch.setenv("TIDEMILL_EVALUATOR_RUN_CONCURRENCY", "2")
    settings = Settings()
    assert settings.canary.share == 0.1
    assert settings.gate.max_citation_drop == 0.02
    assert settings.run.concurrency == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("GATE_ALPHA", "0"), ("CANARY_SHARE", "0.9"), ("RUN_CONCURRENCY", "many")],
)
def test_a_value_out_of_bounds_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"TIDEMILL_EVALUATOR_{name}", value)
    with pytest.raises(ValidationError):
        Settings()
