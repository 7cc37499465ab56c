"""Kafka in: one function a topic."""

from services.inference.adapters.release_book import ReleaseBook
from services.inference.handlers.releases import follow
from tidemill.api.events.v1 import ReleaseChanged
from tidemill.bus import Delivery


async def on_release_changed(
    message: ReleaseChanged, delivery: Delivery, *, book: ReleaseBook
) -> None:
    """Whatever becomes of this try, its rows may be committed: a retry that finds them so ends
    here too."""
    try:
        await follow(message, delivery)
    finally:
        book.forget(delivery.tenant_id)
