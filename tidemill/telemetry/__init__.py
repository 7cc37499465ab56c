"""Traces, metrics and logs of a process."""

from tidemill.telemetry.telemetry import Telemetry, open_telemetry

__all__ = ["Telemetry", "open_telemetry"]
