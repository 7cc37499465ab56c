"""Use cases of the monitor: count, watch, tell."""
