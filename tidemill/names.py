"""Names of the services, in the order of their ports, and what a tenant may be called; imports next
to nothing, for programs that must start fast."""

import re

SERVICES = (
    "ingest",
    "embedder",
    "retriever",
    "inference",
    "trainer",
    "evaluator",
    "monitor",
)
FIRST_GRPC_PORT = 10
"""Of the first service, counted from the mesh's first port."""
TENANT_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
