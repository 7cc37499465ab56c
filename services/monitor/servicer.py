"""MonitorService over gRPC."""

from typing import Any

from services.monitor.adapters.alerts import timestamp
from services.monitor.handlers import budgets, calls
from services.monitor.handlers.calls import ReleaseSummary
from services.monitor.handlers.parts import Parts
from tidemill.api.monitor import v1 as api
from tidemill.rpc import current_caller


class MonitorServicer(api.MonitorServiceServicer):
    """Decodes, calls one handler, encodes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def ListAlerts(
        self, request: api.ListAlertsRequest, context: Any
    ) -> api.ListAlertsResponse:
        page, token = await calls.list_alerts(
            self._parts, current_caller().tenant_id, request.page_size, request.page_token
        )
        return api.ListAlertsResponse(alerts=page, next_page_token=token)

    async def GetUsage(self, request: api.GetUsageRequest, context: Any) -> api.GetUsageResponse:
        usage = await calls.get_usage(self._parts, current_caller().tenant_id)
        return api.GetUsageResponse(
            releases=[usage_of(summary) for summary in usage.releases],
            cost_micros=usage.spent,
            budget_micros=usage.budget,
        )

    async def SetBudget(self, request: api.SetBudgetRequest, context: Any) -> api.SetBudgetResponse:
        start = await budgets.set_budget(
            self._parts, current_caller().tenant_id, request.budget_micros
        )
        return api.SetBudgetResponse(
            budget_micros=request.budget_micros, window_start_time=timestamp(start)
        )


def usage_of(summary: ReleaseSummary) -> api.ReleaseUsage:
    sums = summary.sums
    return api.ReleaseUsage(
        release_id=sums.release_id,
        answers=sums.answers,
        refusals=sums.refusals,
        errors=sums.errors,
        input_tokens=sums.input_tokens,
        output_tokens=sums.output_tokens,
        cost_micros=sums.cost_micros,
        latency_p50_seconds=summary.latency_p50,
        latency_p95_seconds=summary.latency_p95,
    )
