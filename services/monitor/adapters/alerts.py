"""Alerts in rows and as events."""

from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from services.monitor.adapters.tables import AlertRow
from tidemill import topics
from tidemill.api.events import v1 as events
from tidemill.bus import UnitOfWork
from tidemill.ids import derived_id
from tidemill.security.tokens import MESH_TENANT


@dataclass(frozen=True)
class Alert:
    """A bound that broke; occasion makes the id, so that the same occasion is told once."""

    kind: "events.AlertKind.ValueType"
    reason: str
    measured: float
    limit: float
    unit: str
    window_start: float
    window_end: float
    occasion: str
    release_id: str = ""
    consumer: str = ""


def raise_alert(unit: UnitOfWork, alert: Alert, now: float) -> bool:
    """Row and event; False when this occasion was told before."""
    alert_id = derived_id(unit.tenant_id, alert.reason, alert.release_id, alert.occasion)
    message = alert_message(unit.tenant_id, alert_id, alert, now)
    if not keep_alert(unit, message):
        return False
    unit.publish(
        topics.ALERTS_RAISED,
        alert_id,
        message,
        event_id=derived_id("alert", unit.tenant_id, alert_id),
    )
    return True


def keep_alert(unit: UnitOfWork, message: events.AlertRaised) -> bool:
    """The row of an alert; False when it is there already."""
    if _is_known(unit.session, unit.tenant_id, message.alert_id):
        return False
    content = message.SerializeToString(deterministic=True)
    row = AlertRow(tenant_id=unit.tenant_id, alert_id=message.alert_id, content=content)
    unit.session.add(row)
    unit.session.flush()
    return True


def forget_alert(session: Session, message: events.AlertRaised) -> None:
    """As if it had never been raised."""
    session.execute(
        delete(AlertRow).where(
            AlertRow.tenant_id == message.tenant_id, AlertRow.alert_id == message.alert_id
        )
    )


def _is_known(session: Session, tenant_id: str, alert_id: str) -> bool:
    found = session.scalar(
        select(AlertRow.place).where(AlertRow.tenant_id == tenant_id, AlertRow.alert_id == alert_id)
    )
    return found is not None


def alert_message(tenant_id: str, alert_id: str, alert: Alert, now: float) -> events.AlertRaised:
    return events.AlertRaised(
        tenant_id=tenant_id,
        alert_id=alert_id,
        kind=alert.kind,
        reason=alert.reason,
        measured=alert.measured,
        limit=alert.limit,
        unit=alert.unit,
        window_start_time=timestamp(alert.window_start),
        window_end_time=timestamp(alert.window_end),
        raised_time=timestamp(now),
        release_id=alert.release_id,
        consumer=alert.consumer,
    )


def timestamp(seconds: float) -> Timestamp:
    """Message form of seconds since the epoch."""
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1_000_000))
    return stamp


def list_alerts(session: Session, tenant_id: str, before: int, size: int) -> list[AlertRow]:
    """Of the tenant and of the mesh itself, newest first; before: place of the last alert of the
    page before."""
    found = session.scalars(
        select(AlertRow)
        .where(AlertRow.tenant_id.in_([tenant_id, MESH_TENANT]), AlertRow.place < before)
        .order_by(AlertRow.place.desc())
        .limit(size)
    )
    return list(found)
