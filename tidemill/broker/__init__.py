"""An embedded single-node broker that speaks the Kafka protocol, for laptops and tests."""

from tidemill.broker.embedded import EmbeddedBroker
from tidemill.broker.errors import StartupRefused
from tidemill.broker.faults import Drop, Fault, Faults
from tidemill.broker.settings import (
    BrokerSettings,
    ConnectionLimits,
    FsyncPolicy,
    GroupLimits,
)

__all__ = [
    "BrokerSettings",
    "ConnectionLimits",
    "Drop",
    "EmbeddedBroker",
    "Fault",
    "Faults",
    "FsyncPolicy",
    "GroupLimits",
    "StartupRefused",
]
