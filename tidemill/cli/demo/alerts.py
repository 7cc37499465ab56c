"""Reads the alert events of one tenant from the log."""

import asyncio
import time

from aiokafka import AIOKafkaConsumer

from tidemill.api.events.v1 import AlertKind, AlertRaised
from tidemill.bus.goodbye import say_goodbye
from tidemill.cli.output import CommandFailed
from tidemill.topics import ALERTS_RAISED

READ_SECONDS = 60.0


def kind_name(alert: AlertRaised) -> str:
    return AlertKind.Name(alert.kind).removeprefix("ALERT_KIND_")


async def wait_for_alerts(
    bootstrap: str, tenant_id: str, wanted: set[str], seconds: float = READ_SECONDS
) -> list[AlertRaised]:
    """Alert events of the tenant, once there is one of each wanted kind.

    Reads the topic from its start as any consumer would; commits nothing.
    """
    consumer = AIOKafkaConsumer(
        ALERTS_RAISED.name, bootstrap_servers=bootstrap, auto_offset_reset="earliest"
    )
    found: list[AlertRaised] = []
    deadline = time.monotonic() + seconds
    await consumer.start()
    try:
        while not wanted <= {kind_name(alert) for alert in found}:
            if time.monotonic() > deadline:
                missing = wanted - {kind_name(alert) for alert in found}
                raise CommandFailed("DEMO_TIMEOUT", f"no alert of kind {', '.join(missing)}")
            batches = await consumer.getmany(timeout_ms=500)
            for record in (r for batch in batches.values() for r in batch):
                alert = AlertRaised.FromString(record.value)
                if alert.tenant_id == tenant_id:
                    found.append(alert)
            await asyncio.sleep(0)
    finally:
        await say_goodbye(consumer)
    return found
