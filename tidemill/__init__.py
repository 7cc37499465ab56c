"""Plumbing that two or more services share: contracts, bus, RPC, rows, telemetry, identity."""
