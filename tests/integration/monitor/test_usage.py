"""Usage: the same sums however often and in whatever order events come, across restarts."""

import random

import pytest

from tests.integration.monitor.conftest import Stage, answer
from tidemill.api.monitor import v1 as api


async def test_repeated_and_shuffled_events_change_no_sum_and_no_alert(stage: Stage) -> None:
    now = stage.producer.clock.now()
    messages = [
        answer(
            f"a-{n}", now, release_id=f"rel_{n % 2}", seconds=1.0 + n / 100,
            refused=n % 5 == 0, finish_reason="error" if n % 10 == 3 else "stop",
        )
        for n in range(40)
    ]  # fmt: skip
    order = random.Random(3)
    async with stage.monitor():
        await stage.call("SetBudget", api.SetBudgetRequest(budget_micros=1_000))
        await stage.publish(order.sample(messages, 40))
        before = await stage.until_counted(40)
    async with stage.monitor():
        await stage.publish(order.sample(messages, 40))
        await stage.publish([answer("last", now, cost=0)])
        after = await stage.until_counted(41)
        await stage.watched.until(1)
    first, second = before.releases
    assert (first.release_id, second.release_id) == ("rel_0", "rel_1")
    assert (first.answers, second.answers) == (20, 20)
    assert (first.refusals, second.refusals) == (4, 4)
    assert (first.errors, second.errors) == (0, 4)
    assert (first.input_tokens, first.output_tokens, first.cost_micros) == (6_000, 400, 2_000)
    assert first.latency_p50_seconds == pytest.approx(1.19, rel=0.03)
    assert first.latency_p95_seconds == pytest.approx(1.37, rel=0.03)
    assert [release for release in after.releases if release.release_id != "base"] == [
        first, second,
    ]  # fmt: skip
    assert after.cost_micros == before.cost_micros == 4_000
    assert len(stage.watched.alerts) == 1


async def test_usage_is_the_caller_s_own(stage: Stage) -> None:
    now = stage.producer.clock.now()
    async with stage.monitor():
        await stage.publish([answer("a-1", now)])
        await stage.until_counted(1)
        other = await stage.call("GetUsage", api.GetUsageRequest(), tenant="other")
    assert other == api.GetUsageResponse()
