"""Identifiers: time-ordered when new, derived when the same input must give the same id."""

import secrets
import time
import uuid

MAX_ID = 200
"""Characters of an id that others chose, such as that of an answer; rows have room for no more."""
NAMESPACE = uuid.UUID("6f1f6c0a-2f0e-5c3b-9a55-8f9c0d3c7e11")


def new_id(prefix: str) -> str:
    """Prefix, underscore, 12 hexadecimal digits of milliseconds and 20 random ones."""
    milliseconds = time.time_ns() // 1_000_000
    return f"{prefix}_{milliseconds:012x}{secrets.token_hex(10)}"


def fits(identifier: str) -> bool:
    """Whether rows can hold it as a key."""
    return 0 < len(identifier) <= MAX_ID


def derived_id(*parts: str) -> str:
    """UUIDv5 of the parts; a part boundary counts, so ("a", "bc") differs from ("ab", "c")."""
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return str(uuid.uuid5(NAMESPACE, joined))


def is_derived(identifier: str) -> bool:
    """Whether it has the form of derived_id, which no new_id has."""
    try:
        return str(uuid.UUID(identifier)) == identifier
    except ValueError:
        return False
