"""A consumer that stopped by itself is everybody's news: its events wait, whosever they are."""

from services.monitor.adapters import alerts
from services.monitor.handlers.parts import Parts
from tidemill.api.events import v1 as events
from tidemill.bus import Delivery
from tidemill.faults import Fault, Reason
from tidemill.security.tokens import MESH_TENANT


async def tell_stop(message: events.ConsumerStopped, delivery: Delivery, *, parts: Parts) -> None:
    """One alert a stop; a consumer that floods again after its restart is told again."""
    if delivery.tenant_id != MESH_TENANT:
        raise Fault(Reason.TENANT_MISMATCH)
    alert = _alert(message, delivery.event_id)
    if await delivery.apply(lambda unit: alerts.raise_alert(unit, alert, parts.now())):
        parts.figures.alert(MESH_TENANT, message.reason)


def _alert(message: events.ConsumerStopped, occasion: str) -> alerts.Alert:
    stopped = message.stopped_time.ToMicroseconds() / 1_000_000
    return alerts.Alert(
        kind=events.ALERT_KIND_DELIVERY,
        reason=message.reason,
        measured=message.measured,
        limit=message.limit,
        unit=message.unit,
        window_start=stopped,
        window_end=stopped,
        occasion=occasion,
        consumer=message.consumer,
    )
