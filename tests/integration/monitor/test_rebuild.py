"""The monitor's rows are lost: usage, spending, budgets and alerts come back, and nobody is told
twice."""

from tests.integration.monitor.conftest import Stage, answer
from tests.integration.rebuilding import ends, lost_and_rebuilt
from tidemill.api.monitor import v1 as api


async def test_usage_budgets_and_alerts_come_back_and_are_not_told_again(stage: Stage) -> None:
    now = stage.producer.clock.now()
    messages = [
        answer(f"a-{n}", now, release_id=f"rel_{n % 2}", seconds=1 + n / 100, refused=n % 5 == 0)
        for n in range(40)
    ]
    async with stage.monitor():
        # Some were told under a budget that was then raised: no budget of today may tell them.
        await stage.call("SetBudget", api.SetBudgetRequest(budget_micros=1_000))
        await stage.publish(messages)
        await stage.until_counted(40)
        await stage.watched.until(1)
        await stage.call("SetBudget", api.SetBudgetRequest(budget_micros=3_000))
        await stage.thumb("a-1", up=False)
        before = await stage.call("GetUsage", api.GetUsageRequest())
        await stage.watched.until(2)
        told = await stage.call("ListAlerts", api.ListAlertsRequest())

    rebuilt = await lost_and_rebuilt(stage.settings, "monitor")

    assert set(rebuilt.after) == {"alerts", "budgets", "latencies", "spend", "usage"}
    length = await ends(stage.settings)
    async with stage.monitor():
        assert await stage.call("GetUsage", api.GetUsageRequest()) == before
        assert await stage.call("ListAlerts", api.ListAlertsRequest()) == told
        await stage.publish([answer("last", now)])
        await stage.until_counted(41)
    assert len(stage.watched.alerts) == 2
    assert (await ends(stage.settings))["alerts.raised.v1"] == length["alerts.raised.v1"]
