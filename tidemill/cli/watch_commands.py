"""tidemill releases, alerts, usage, budget, runs, token: what the loop did, and who may ask."""

from datetime import timedelta

import typer

from tidemill.api.evaluator.v1 import EvaluatorServiceStub, ListReleasesRequest
from tidemill.api.events.v1 import AlertKind, AlertRaised, ReleaseState
from tidemill.api.monitor.v1 import (
    GetUsageRequest,
    ListAlertsRequest,
    MonitorServiceStub,
    SetBudgetRequest,
)
from tidemill.api.trainer.v1 import ListRunsRequest, RunState, TrainerServiceStub
from tidemill.cli.context import JSON_OPTION, TENANT_OPTION, open_context, run
from tidemill.rpc import call

RPC_SECONDS = 10.0


def releases(tenant: str = TENANT_OPTION, json_mode: bool = JSON_OPTION) -> None:
    """List the releases with their state and the reasons of the gate."""
    context = open_context(tenant, json_mode)

    async def work() -> None:
        async with context.channels() as channels:
            stub = EvaluatorServiceStub(channels.to("evaluator"))
            request = ListReleasesRequest(page_size=100)
            response = await call(
                stub.ListReleases, request, token=context.token, timeout=RPC_SECONDS
            )
        rows = [
            {
                "release_id": r.release.release_id,
                "state": ReleaseState.Name(r.state).removeprefix("RELEASE_STATE_"),
                "adapter": r.release.adapter,
                "prompt_version": r.release.prompt_version,
                "epoch": r.epoch,
                "reasons": list(r.reasons),
                "evaluation_id": r.evaluation_id,
            }
            for r in response.releases
        ]
        context.output.document({"releases": rows})
        columns = ("release_id", "state", "adapter", "prompt_version", "reasons")
        cells = [[*(row[c] for c in columns[:-1]), " ".join(row["reasons"])] for row in rows]
        context.output.table(columns, cells)
        if not rows:
            context.output.line("No release yet: the base model with the default prompt answers.")

    run(context, work())


def alerts(tenant: str = TENANT_OPTION, json_mode: bool = JSON_OPTION) -> None:
    """List the alerts, newest first."""
    context = open_context(tenant, json_mode)

    async def work() -> None:
        async with context.channels() as channels:
            stub = MonitorServiceStub(channels.to("monitor"))
            request = ListAlertsRequest(page_size=100)
            response = await call(
                stub.ListAlerts, request, token=context.token, timeout=RPC_SECONDS
            )
        rows = [alert_row(alert) for alert in response.alerts]
        context.output.document({"alerts": rows})
        columns = ("raised", "kind", "reason", "about", "measured", "limit", "unit")
        context.output.table(columns, [[row[c] for c in columns] for row in rows])
        if not rows:
            context.output.line("No alerts.")

    run(context, work())


def alert_row(alert: AlertRaised) -> dict[str, object]:
    return {
        "alert_id": alert.alert_id,
        "kind": AlertKind.Name(alert.kind).removeprefix("ALERT_KIND_"),
        "reason": alert.reason,
        "about": alert.consumer or alert.release_id,
        "measured": round(alert.measured, 6),
        "limit": alert.limit,
        "unit": alert.unit,
        "raised": alert.raised_time.ToJsonString(),
    }


def usage(tenant: str = TENANT_OPTION, json_mode: bool = JSON_OPTION) -> None:
    """Sum tokens, cost and latency by release."""
    context = open_context(tenant, json_mode)

    async def work() -> None:
        async with context.channels() as channels:
            stub = MonitorServiceStub(channels.to("monitor"))
            response = await call(
                stub.GetUsage, GetUsageRequest(), token=context.token, timeout=RPC_SECONDS
            )
        fields = (
            "release_id",
            "answers",
            "refusals",
            "errors",
            "input_tokens",
            "output_tokens",
            "cost_micros",
            "latency_p50_seconds",
            "latency_p95_seconds",
        )
        rows = [{field: getattr(r, field) for field in fields} for r in response.releases]
        document = {
            "releases": rows,
            "cost_micros": response.cost_micros,
            "budget_micros": response.budget_micros,
        }
        context.output.document(document)
        context.output.table(fields, [[row[f] for f in fields] for row in rows])
        budget = response.budget_micros or "none"
        context.output.line(f"cost {response.cost_micros} micro-units, daily budget {budget}")

    run(context, work())


def budget(
    micros: int = typer.Argument(..., min=0, help="Micro-units for each UTC day; 0 removes it."),
    tenant: str = TENANT_OPTION,
    json_mode: bool = JSON_OPTION,
) -> None:
    """Set the tenant's daily budget; spending above it raises an alert."""
    context = open_context(tenant, json_mode)

    async def work() -> None:
        async with context.channels() as channels:
            stub = MonitorServiceStub(channels.to("monitor"))
            request = SetBudgetRequest(budget_micros=micros)
            response = await call(stub.SetBudget, request, token=context.token, timeout=RPC_SECONDS)
        context.output.document({"budget_micros": response.budget_micros})
        context.output.line(f"Budget: {response.budget_micros} micro-units a day.")

    run(context, work())


def runs(tenant: str = TENANT_OPTION, json_mode: bool = JSON_OPTION) -> None:
    """List the training runs, newest first."""
    context = open_context(tenant, json_mode)

    async def work() -> None:
        async with context.channels() as channels:
            stub = TrainerServiceStub(channels.to("trainer"))
            request = ListRunsRequest(page_size=100)
            response = await call(stub.ListRuns, request, token=context.token, timeout=RPC_SECONDS)
        rows = [
            {
                "run_id": r.run_id,
                "state": RunState.Name(r.state).removeprefix("RUN_STATE_"),
                "adapter": r.adapter,
                "supervised_examples": r.supervised_examples,
                "preference_pairs": r.preference_pairs,
                "steps": f"{r.steps_done}/{r.steps_planned}",
                "loss": round(r.loss, 4),
                "reason": r.reason,
            }
            for r in response.runs
        ]
        context.output.document({"runs": rows})
        columns = ("run_id", "state", "adapter", "supervised_examples", "steps", "loss", "reason")
        context.output.table(columns, [[row[c] for c in columns] for row in rows])
        if not rows:
            context.output.line("No training run yet; feedback starts one.")

    run(context, work())


def token(
    audience: str = typer.Option("rpc", help="rpc or events."),
    minutes: int = typer.Option(60, min=1, max=24 * 60, help="Lifetime."),
    scope: list[str] = typer.Option([], "--scope", help="Scopes; all that the CLI has if none."),
    tenant: str = TENANT_OPTION,
    json_mode: bool = JSON_OPTION,
) -> None:
    """Mint a token with the local mesh's development key, for grpcurl or a producer."""
    context = open_context(tenant, json_mode)

    async def work() -> None:
        from tidemill.cli.output import CommandFailed
        from tidemill.cli.scopes import ALL_SCOPES

        if audience not in ("rpc", "events"):
            raise CommandFailed("INVALID_ARGUMENT", "--audience is rpc or events", 2)
        text = context.identity().mint(
            context.tenant_id,
            scope or ALL_SCOPES,
            audience=f"tidemill.{audience}",
            lifetime=timedelta(minutes=minutes),
        )
        context.output.document({"token": text, "tenant": context.tenant_id})
        context.output.line(text)

    run(context, work())
