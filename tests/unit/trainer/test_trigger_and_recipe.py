"""When a run starts, what its steps are, and how its adapter is called."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from services.trainer.domain.naming import adapter_name
from services.trainer.domain.recipe import Recipe, plan_steps
from services.trainer.domain.trigger import Trigger
from services.trainer.settings import TrainerSettings

NOW = datetime(2031, 3, 3, tzinfo=UTC)
TRIGGER = Trigger(min_feedback=10, quiet=timedelta(seconds=3), overdue=timedelta(minutes=10))


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def test_enough_feedback_starts_a_run_once_it_is_quiet() -> None:
    assert TRIGGER.fires(10, ago(60), ago(4), NOW)
    assert not TRIGGER.fires(10, ago(60), ago(2), NOW)


def test_too_little_feedback_never_starts_a_run() -> None:
    assert not TRIGGER.fires(9, ago(9_999), ago(9_999), NOW)
    assert not TRIGGER.fires(0, None, None, NOW)


def test_feedback_that_never_pauses_is_trained_on_in_the_end() -> None:
    assert TRIGGER.fires(10, ago(601), ago(0), NOW)


def test_every_example_is_seen_once_an_epoch() -> None:
    steps = plan_steps(Recipe(epochs=2, batch_size=4), 10, ())
    assert len(steps) == 6
    assert sorted(n for step in steps[:3] for n in step.examples) == list(range(10))
    assert sorted(n for step in steps[3:] for n in step.examples) == list(range(10))
    assert steps[:3] != steps[3:]


def test_the_seed_alone_decides_the_order() -> None:
    assert plan_steps(Recipe(seed=3), 50, (1, 2)) == plan_steps(Recipe(seed=3), 50, (1, 2))
    assert plan_steps(Recipe(seed=3), 50, ()) != plan_steps(Recipe(seed=4), 50, ())


def test_refusals_stand_at_even_distances() -> None:
    refusals = tuple(range(0, 64, 4))
    steps = plan_steps(Recipe(batch_size=8, preference_steps=0), 64, (), refusals)
    found = [len(set(step.examples) & set(refusals)) for step in steps]
    assert sum(found) == 16
    assert all(1 <= count <= 3 for count in found)
    assert sorted(i for step in steps for i in step.examples) == list(range(64))


def test_a_data_set_of_refusals_alone_has_its_steps() -> None:
    [step] = plan_steps(Recipe(preference_steps=0), 3, (), (0, 1, 2))
    assert sorted(step.examples) == [0, 1, 2]


@pytest.mark.parametrize(("share", "taking_part"), [(0.5, 4), (1.0, 8), (0.0, 1)])
def test_the_last_supervised_steps_take_part_in_the_average(share: float, taking_part: int) -> None:
    """The last one always does, so that an average is there to keep."""
    steps = plan_steps(Recipe(batch_size=2, averaged_share=share), 16, tuple(range(16)))
    supervised = [step.averaged for step in steps if step.phase == "supervised"]
    assert supervised == [0] * (8 - taking_part) + [*range(1, taking_part + 1)]
    assert not any(step.averaged for step in steps if step.phase == "preference")


def test_the_learning_rate_warms_up_and_decays() -> None:
    recipe = Recipe(epochs=1, batch_size=1, warmup_share=0.1, learning_rate=1.0)
    rates = [step.learning_rate for step in plan_steps(recipe, 100, ())]
    assert rates[0] < rates[5] < max(rates)
    assert max(rates) == pytest.approx(1.0, abs=0.1)
    assert 0 < rates[-1] < 0.05


def test_preference_steps_come_last_and_take_pairs_alone() -> None:
    recipe = Recipe(batch_size=4, preference_steps=2, preference_batch_size=3)
    steps = plan_steps(recipe, 12, tuple(range(0, 12, 2)))
    assert [step.phase for step in steps] == ["supervised"] * 3 + ["preference"] * 2
    assert all(n % 2 == 0 for step in steps[3:] for n in step.examples)


def test_preference_training_can_be_switched_off_and_needs_pairs() -> None:
    assert all(s.phase == "supervised" for s in plan_steps(Recipe(preference_steps=0), 9, (1,)))
    assert all(s.phase == "supervised" for s in plan_steps(Recipe(), 9, ()))


def test_adapter_names_can_name_files_and_never_meet() -> None:
    assert adapter_name("harbor", 3) == "harbor-v3"
    names = {adapter_name(tenant, 1) for tenant in ("a/b", "a-b", "a b", "ab", "../a", "a" * 200)}
    assert len(names) == 6
    assert all("/" not in name and "." not in name and len(name) < 80 for name in names)


def test_a_trigger_that_could_never_fire_is_refused_at_start() -> None:
    with pytest.raises(ValidationError, match="min_feedback"):
        TrainerSettings(min_feedback=200, max_examples=100)
