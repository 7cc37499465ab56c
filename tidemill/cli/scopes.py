"""Scopes of the tokens that the command line mints for the person at the keyboard."""

ALL_SCOPES = (
    "answers:write",
    "documents:read",
    "documents:write",
    "feedback:write",
    "training:read",
    "releases:read",
    "releases:write",
    "suites:write",
    "alerts:read",
    "budgets:write",
)
