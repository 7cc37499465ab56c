"""Consumer groups: a pure state machine, and the coordinator that gives it time and callers."""
