"""Share watches: level, power, one finding an episode, and permits that bound the tests."""

from dataclasses import replace

import numpy as np
import pytest

from services.monitor.domain.permits import Permits
from services.monitor.domain.shares import Normal, ShareFinding, ShareWatch, observe
from services.monitor.settings import ShareRules

RULES = ShareRules()
OWN = Normal(reference=100)
FIXED = Normal(share=0.05)
HOUR = 3_600.0


def feed(
    watch: ShareWatch, hits: list[bool], normal: Normal, now: float = 0.0
) -> tuple[ShareWatch, list[ShareFinding]]:
    found = []
    for hit in hits:
        watch, finding = observe(watch, hit, normal, RULES, now)
        found += [finding] if finding else []
    return watch, found


def new_watch() -> ShareWatch:
    return ShareWatch(Permits.full(RULES, now=0.0))


def test_a_share_like_the_first_answers_raises_nothing_in_a_hundred_days() -> None:
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(100):
        hits = list(random.random(600) < 0.15)
        alarms += len(feed(new_watch(), hits, OWN)[1])
    # At most 10 tests a day at the level of 0.00035 promise 0.35 alarms.
    assert alarms <= 3


@pytest.mark.parametrize("normal", [OWN, FIXED])
def test_a_share_that_rises_to_half_is_found_in_the_first_window(normal: Normal) -> None:
    random = np.random.default_rng(2)
    watch, _ = feed(new_watch(), list(random.random(100) < 0.05), normal)
    _, found = feed(watch, list(random.random(50) < 0.5), normal)
    assert len(found) == 1
    assert found[0].measured > found[0].limit
    assert found[0].p_value < RULES.alpha


def test_an_episode_is_told_once_and_again_after_a_normal_window() -> None:
    bad, good = [True, False] * 25, [False] * 50
    watch, _ = feed(new_watch(), [False] * 100, OWN)
    watch, first = feed(watch, bad * 4, OWN)
    watch, quiet = feed(watch, good, OWN)
    watch, second = feed(watch, bad, OWN)
    assert (len(first), len(quiet), len(second)) == (1, 0, 1)


def test_a_rise_below_the_least_is_not_news_however_significant() -> None:
    rules_rise = RULES.min_rise
    watch = replace(new_watch(), reference_n=100, reference_k=5)
    watch = replace(watch, window_n=9_999, window_k=int(9_999 * (0.05 + rules_rise - 0.02)))
    assert feed(watch, [False], OWN)[1] == []


def test_without_permits_the_window_grows_until_one_comes() -> None:
    empty = Permits(0.0, refilled_at=0.0)
    watch = replace(new_watch(), permits=empty, reference_n=100)
    watch, found = feed(watch, [True] * 120, OWN, now=60.0)
    assert found == []
    assert watch.window_n == 120
    watch, found = feed(watch, [True], OWN, now=HOUR)
    assert len(found) == 1
    assert watch.window_n == 0


def test_a_day_has_no_more_tests_than_the_level_is_made_for() -> None:
    permits, tests = Permits.full(RULES, 0.0), 0
    for minute in range(24 * 60):
        permits = permits.refilled(RULES, minute * 60.0)
        if permits.available:
            permits, tests = permits.spent(), tests + 1
    assert tests * RULES.alpha <= RULES.false_alarms_per_day


def test_a_clock_that_steps_back_gives_no_permits() -> None:
    spent = Permits(0.0, refilled_at=10 * HOUR)
    assert spent.refilled(RULES, now=HOUR) == spent
    assert spent.refilled(RULES, now=HOUR).refilled(RULES, now=10 * HOUR) == spent
