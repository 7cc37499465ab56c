"""A flood of bad events: the consumer stops, everybody is told, and the rest waits untouched."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from services.monitor.app import lifespan as monitor
from tests.integration.core.parts import Base, effects, record_effect
from tests.tables import create_tables
from tidemill import topics
from tidemill.api.events import v1 as events
from tidemill.api.monitor.v1 import ListAlertsRequest, MonitorServiceStub
from tidemill.bus import Delivery
from tidemill.bus.failures import DlqCircuitBreaker
from tidemill.faults import Fault, Reason
from tidemill.rpc import call
from tidemill.runtime import Runtime, report_health

RunService = Callable[..., AbstractAsyncContextManager[Runtime]]


class Handler:
    """Refuses the documents that are named bad, until it is fixed."""

    def __init__(self) -> None:
        self.fixed = False

    async def __call__(self, message: events.DocumentSubmitted, delivery: Delivery) -> None:
        if delivery.aggregate_id.startswith("bad") and not self.fixed:
            raise Fault(Reason.DOCUMENT_BROKEN)
        await record_effect(message, delivery)

    @asynccontextmanager
    async def lifespan(self, runtime: Runtime) -> AsyncIterator[None]:
        await create_tables(runtime.database, Base.metadata)
        runtime.bus.subscribe(topics.DOCUMENTS_SUBMITTED, self)
        yield


async def letters_in(outside: Any) -> int:
    return len(await outside.read(topics.DOCUMENTS_SUBMITTED.dead_letter_name))


async def alerts_of(runtime: Runtime, mint: Any, tenant: str) -> list[events.AlertRaised]:
    stub = MonitorServiceStub(runtime.channels.to("monitor"))
    token = mint(runtime.settings, tenant, "alerts:read")
    response = await call(stub.ListAlerts, ListAlertsRequest(), token=token, timeout=10.0)
    return list(response.alerts)


async def test_a_flood_stops_the_consumer_is_told_to_every_tenant_and_ends_with_the_fix(
    outside: Any, run_service: RunService, eventually: Any, mint: Any
) -> None:
    handler = Handler()
    for number in range(130):
        await outside.submit(f"bad-{number}", event_id=f"event-{number}")
    async with run_service("ingest", outside.settings, handler.lifespan) as runtime:

        async def stopped() -> bool:
            return bool(await runtime.bus.stalled())

        await eventually(stopped)
        assert await runtime.bus.stalled() == ["ingest/documents.submitted.v1"]
        await report_health(runtime)
        assert not runtime.server.serving
        async with run_service("monitor", outside.settings, monitor) as watcher:

            async def told() -> Any:
                return await alerts_of(watcher, mint, "acme")

            (alert,) = await eventually(told)
            assert alert.kind == events.ALERT_KIND_DELIVERY
            assert (alert.reason, alert.consumer) == (
                "DEAD_LETTER_LIMIT_EXCEEDED",
                "ingest/documents.submitted.v1",
            )
            assert (alert.measured, alert.limit, alert.unit) == (100, 100, "dead_letters_in_a_row")
            assert [a.alert_id for a in await alerts_of(watcher, mint, "globex")] == [
                alert.alert_id
            ]
    assert await letters_in(outside) == 100
    handler.fixed = True
    async with run_service("ingest", outside.settings, handler.lifespan) as runtime:

        async def rest_applied() -> bool:
            return len(await effects(runtime)) == 30

        await eventually(rest_applied)
    assert await letters_in(outside) == 100


async def test_more_than_a_tenth_of_a_thousand_is_a_flood(
    outside: Any, run_service: RunService, eventually: Any, monkeypatch: Any
) -> None:
    """A window of 100 here: the arithmetic of the real one is the policy's own test."""
    monkeypatch.setattr(
        "tidemill.bus.bus.DlqCircuitBreaker", partial(DlqCircuitBreaker, window=100)
    )
    async with run_service("ingest", outside.settings, Handler().lifespan) as runtime:
        for number in range(120):
            name = f"bad-{number}" if number % 8 == 0 else f"doc-{number}"
            await outside.submit(name, event_id=f"event-{number}")

        async def stopped() -> bool:
            return bool(await runtime.bus.stalled())

        await eventually(stopped)
        assert 85 <= len(await effects(runtime)) <= 90


async def test_without_its_brake_a_consumer_lets_a_known_flood_pass(
    outside: Any, run_service: RunService, eventually: Any
) -> None:
    settings = outside.settings.model_copy(update={"flood_brake": False})
    for number in range(130):
        await outside.submit(f"bad-{number}", event_id=f"event-{number}")
    await outside.submit("good", event_id="last")
    async with run_service("ingest", settings, Handler().lifespan) as runtime:

        async def passed() -> bool:
            return await effects(runtime) == ["last"] and await letters_in(outside) == 130

        await eventually(passed)
        assert await runtime.bus.stalled() == []
