"""The broker and the raw Kafka client of the bus's own tests."""

from tests.integration.core.conftest import broker, eventually, outside

__all__ = ["broker", "eventually", "outside"]
