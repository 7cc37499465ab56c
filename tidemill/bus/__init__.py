"""Events over Kafka: applied once, in one SQL transaction with their effects.

The names load on first use: who only names a header or a topic, as the command line does, need
not wait for a database library and a Kafka framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidemill.bus.bus import Bus, open_bus
    from tidemill.bus.commits import AlreadyApplied
    from tidemill.bus.delivery import Delivery
    from tidemill.bus.unit import UnitOfWork

__all__ = ["AlreadyApplied", "Bus", "Delivery", "UnitOfWork", "open_bus"]

_HOMES = {
    "AlreadyApplied": "commits",
    "Bus": "bus",
    "Delivery": "delivery",
    "UnitOfWork": "unit",
    "open_bus": "bus",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
