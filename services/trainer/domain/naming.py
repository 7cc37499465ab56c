"""Names of adapters, and of the folders of a tenant."""

import hashlib
import re

MAX_CHARACTERS = 60

_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")


def adapter_name(tenant_id: str, number: int) -> str:
    """For example "harbor-v3"."""
    return f"{folder_name(tenant_id)}-v{number}"


def folder_name(tenant_id: str) -> str:
    """The tenant's id if it can name a file, else what is left of it and a hash: two tenants never
    share a name."""
    plain = _UNSAFE.sub("-", tenant_id).strip("-")[:MAX_CHARACTERS]
    if plain == tenant_id:
        return plain
    return f"{plain or 'tenant'}-{hashlib.sha256(tenant_id.encode()).hexdigest()[:8]}"
