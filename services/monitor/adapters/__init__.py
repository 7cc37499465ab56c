"""Rows of the monitor, and the figures of its Prometheus endpoint."""
