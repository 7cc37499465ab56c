"""Names of the services, in the order of their ports; imports nothing, for programs that must start
fast."""

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
