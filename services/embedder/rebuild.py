"""How the embedder knows again what it has embedded, without the model server."""

from services.embedder.handlers import Embeddings, digests
from tidemill import topics
from tidemill.rebuild.plan import Input, Output, Plan, Stage


def plan(stage: Stage) -> Plan:
    """It owns no rows but its inbox: a version is done when its vectors are on the log."""
    embeddings = Embeddings()
    return Plan(
        phases=(
            (Output(topics.CHUNKS_EMBEDDED, embeddings.read),),
            (Input(topics.DOCUMENTS_CHUNKED, embeddings.retake, embeddings.leaves),),
        ),
        digests=digests,
    )
