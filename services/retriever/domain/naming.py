"""Names in the vector store; none carries text that a caller chose."""

import hashlib


def collection_name(tenant_id: str, model_version: str) -> str:
    """One collection a tenant and embedding model: a search cannot reach another's vectors."""
    return f"chunks_{_digest(tenant_id)[:24]}_{_digest(model_version)[:12]}"


def version_key(tenant_id: str, document_id: str, version: int) -> int:
    """Positive 63-bit number of a document version, the same after every rebuild."""
    return int(_digest(f"{tenant_id}\n{document_id}\n{version}")[:16], 16) >> 1


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
