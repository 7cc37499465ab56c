"""Events over Kafka: applied once, in one SQL transaction with their effects."""

from tidemill.bus.bus import Bus, open_bus
from tidemill.bus.delivery import AlreadyApplied, Delivery
from tidemill.bus.unit import Unit

__all__ = ["AlreadyApplied", "Bus", "Delivery", "Unit", "open_bus"]
