"""Asks the serving path and the index for a tenant, with the evaluator's own tokens."""

from dataclasses import dataclass

from services.evaluator.domain.results import Answer
from tidemill.api.inference.v1 import GenerateRequest, GenerationCompleted, InferenceServiceStub
from tidemill.api.retriever.v1 import GetIndexRequest, RetrieverServiceStub
from tidemill.faults import Fault, Reason
from tidemill.rpc import Channels, call, stream
from tidemill.security.tokens import Identity

ASK_SCOPES = ("answers:write", "releases:evaluate")
INDEX_SCOPES = ("documents:read",)
INDEX_SECONDS = 10.0


@dataclass(frozen=True)
class Index:
    """What the tenant's answers stand on."""

    manifest_hash: str
    embedding_model_version: str


class Serving:
    """The mesh as a user of one tenant meets it; raises Fault."""

    def __init__(self, channels: Channels, identity: Identity) -> None:
        self._inference = InferenceServiceStub(channels.to("inference"))
        self._retriever = RetrieverServiceStub(channels.to("retriever"))
        self._identity = identity

    async def ask(
        self, tenant_id: str, release_id: str, question: str, max_tokens: int, timeout: float
    ) -> Answer:
        """One answer of one release. timeout: seconds for the whole answer."""
        request = GenerateRequest(
            question=question, max_output_tokens=max_tokens, release_id=release_id
        )
        token = self._identity.mint(tenant_id, ASK_SCOPES)
        answer_id = ""
        async for response in stream(
            self._inference.Generate, request, token=token, timeout=timeout
        ):
            answer_id = response.started.answer_id or answer_id
            if response.HasField("completed"):
                return answer_of(answer_id, response.completed)
        raise Fault(Reason.INTERNAL, detail="no completion")

    async def index(self, tenant_id: str) -> Index:
        token = self._identity.mint(tenant_id, INDEX_SCOPES)
        found = await call(
            self._retriever.GetIndex, GetIndexRequest(), token=token, timeout=INDEX_SECONDS
        )
        return Index(found.manifest_hash, found.embedding_model.version)


def answer_of(answer_id: str, completed: GenerationCompleted) -> Answer:
    return Answer(
        answer_id=answer_id,
        text=completed.text,
        refused=completed.refused,
        cited_document_ids=tuple(citation.document_id for citation in completed.citations),
        duration_seconds=completed.duration_seconds,
        cost_micros=completed.usage.cost_micros,
    )
