"""Alerts as events: cost, drift, quality and latency, each once."""

import urllib.request

import numpy as np
import pytest

from tests.integration.monitor.conftest import Stage, answer
from tests.unit.monitor.questions import Domain
from tidemill.api.events import v1 as events
from tidemill.api.monitor import v1 as api
from tidemill.faults import Fault, Reason


async def test_a_budget_is_told_once_and_again_when_raised_and_passed(stage: Stage) -> None:
    now = stage.producer.clock.now()
    async with stage.monitor():
        await stage.call("SetBudget", api.SetBudgetRequest(budget_micros=250))
        await stage.publish([answer(f"a-{n}", now) for n in range(5)])
        (first,) = await stage.watched.until(1)
        usage = await stage.until_counted(5)
        assert (usage.cost_micros, usage.budget_micros) == (500, 250)
        # 500 is spent: a budget of 500 is kept, one of 600 is passed by the next two answers.
        await stage.call("SetBudget", api.SetBudgetRequest(budget_micros=600))
        await stage.publish([answer(f"b-{n}", now) for n in range(2)])
        _, second = await stage.watched.until(2)
        page = await stage.call("ListAlerts", api.ListAlertsRequest(page_size=1))
        rest = await stage.call(
            "ListAlerts", api.ListAlertsRequest(page_token=page.next_page_token)
        )
    assert (first.kind, first.reason) == (events.ALERT_KIND_COST, "BUDGET_EXCEEDED")
    assert (first.measured, first.limit, first.unit) == (300, 250, "cost_micros")
    assert (second.measured, second.limit) == (700, 600)
    assert [*page.alerts, *rest.alerts] == [second, first]
    assert rest.next_page_token == ""


async def test_a_budget_below_what_is_spent_is_told_at_once(stage: Stage) -> None:
    now = stage.producer.clock.now()
    async with stage.monitor():
        await stage.publish([answer("a-1", now, cost=900)])
        await stage.until_counted(1)
        await stage.call("SetBudget", api.SetBudgetRequest(budget_micros=100))
        (alert,) = await stage.watched.until(1)
    assert alert.reason == "BUDGET_EXCEEDED"


async def test_questions_of_another_domain_raise_one_drift_alert(stage: Stage) -> None:
    random, now = np.random.default_rng(1), stage.producer.clock.now()
    home, other = Domain(random), Domain(random)
    usual = [answer(f"a-{n}", now, vector=row) for n, row in enumerate(home.ask(80))]
    unusual = [answer(f"b-{n}", now, vector=row) for n, row in enumerate(other.ask(40))]
    asked_by_us = [
        answer(f"c-{n}", now, vector=row, production=False)
        for n, row in enumerate(Domain(random).ask(20))
    ]
    async with stage.monitor() as runtime:
        await stage.publish(usual + asked_by_us)
        await stage.until_counted(100)
        assert stage.watched.alerts == []
        await stage.publish(unusual)
        (alert,) = await stage.watched.until(1)
        await stage.until_counted(140)
        await stage.publish([answer("d-1", now, cost=0)])
        await stage.until_counted(141)
        port = stage.settings.metrics_port("monitor")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:  # noqa: ASYNC210
            figures = page.read().decode()
        assert runtime.service == "monitor"
    assert len(stage.watched.alerts) == 1
    assert (alert.kind, alert.reason) == (events.ALERT_KIND_DRIFT, "QUESTION_DRIFT")
    assert alert.measured < alert.limit
    assert alert.unit == "p_value"
    assert "tidemill_alerts_total{" in figures
    assert 'reason="QUESTION_DRIFT",tenant="acme"} 1.0' in figures
    assert 'outcome="answered"' in figures


async def test_answers_that_get_worse_raise_one_alert_for_their_release(stage: Stage) -> None:
    now = stage.producer.clock.now()
    good = [answer(f"a-{n}", now, release_id="rel_1") for n in range(50)]
    refusing = [answer(f"b-{n}", now, release_id="rel_1", refused=True) for n in range(40)]
    async with stage.monitor():
        await stage.publish(good)
        await stage.until_counted(50)
        await stage.publish(refusing)
        await stage.until_counted(90)
        (alert,) = await stage.watched.until(1)
    assert (alert.kind, alert.reason) == (events.ALERT_KIND_QUALITY, "REFUSAL_SHARE")
    assert (alert.measured, alert.release_id) == (1.0, "rel_1")


async def test_slow_and_failing_answers_are_told_without_a_reference(stage: Stage) -> None:
    now = stage.producer.clock.now()
    slow = [answer(f"a-{n}", now, release_id="rel_1", seconds=31.0) for n in range(20)]
    failing = [answer(f"b-{n}", now, release_id="rel_2", finish_reason="error") for n in range(20)]
    async with stage.monitor():
        await stage.publish(slow + failing)
        alerts = await stage.watched.until(2)
    assert {(alert.kind, alert.reason, alert.release_id) for alert in alerts} == {
        (events.ALERT_KIND_LATENCY, "SLOW_SHARE", "rel_1"),
        (events.ALERT_KIND_QUALITY, "ERROR_SHARE", "rel_2"),
    }


async def test_thumbs_count_for_the_release_that_answered_in_any_order(stage: Stage) -> None:
    now = stage.producer.clock.now()
    answers = [answer(f"a-{n}", now, release_id="rel_1") for n in range(28)]
    async with stage.monitor():
        for message in answers[:20]:
            await stage.thumb(message.answer_id, up=True)
        await stage.publish(answers)
        await stage.until_counted(28)
        for message in answers[20:]:
            await stage.thumb(message.answer_id, up=False)
        (alert,) = await stage.watched.until(1)
    assert (alert.reason, alert.release_id) == ("THUMBS_DOWN_SHARE", "rel_1")
    assert alert.measured == 1.0


@pytest.mark.parametrize("budget", [-1, 2**62 + 1])
async def test_a_budget_out_of_range_is_refused(stage: Stage, budget: int) -> None:
    async with stage.monitor():
        with pytest.raises(Fault) as refused:
            await stage.call("SetBudget", api.SetBudgetRequest(budget_micros=budget))
    assert refused.value.reason is Reason.INVALID_ARGUMENT


async def test_callers_without_time_raise_no_alert_of_errors_and_slow_answers_stay_seen(
    stage: Stage,
) -> None:
    now = stage.producer.clock.now()

    def ended(name: str, seconds: float, reason: str) -> list[events.AnswerGenerated]:
        how = {"finish_reason": "error", "error_reason": reason, "release_id": name}
        return [answer(f"{name}-{n}", now, seconds=seconds, **how) for n in range(25)]

    async with stage.monitor():
        await stage.publish(ended("hasty", 1.0, "DEADLINE_EXCEEDED"))
        await stage.publish(ended("wordy", 1.0, "INVALID_ARGUMENT"))
        await stage.publish(ended("away", 1.0, "DEPENDENCY_UNAVAILABLE"))
        await stage.publish(ended("slow", 59.0, "DEADLINE_EXCEEDED"))
        alerts = await stage.watched.until(2)
        usage = await stage.until_counted(100)
    assert {(alert.release_id, alert.reason) for alert in alerts} == {
        ("away", "ERROR_SHARE"),
        ("slow", "SLOW_SHARE"),
    }
    assert {release.release_id: release.errors for release in usage.releases} == {
        "hasty": 0,
        "wordy": 0,
        "away": 25,
        "slow": 0,
    }
