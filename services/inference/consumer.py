"""Kafka in: one function a topic."""

from services.inference.handlers.releases import follow
from tidemill.api.events.v1 import ReleaseChanged
from tidemill.bus import Delivery


async def on_release_changed(message: ReleaseChanged, delivery: Delivery) -> None:
    await follow(message, delivery)
