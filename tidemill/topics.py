"""Every topic: its name, message, owner, partitions, retention and who may write to it."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from tidemill.api.events import v1 as events

M = TypeVar("M", bound=Message)

DAY_MS = 24 * 60 * 60 * 1000
FOREVER = -1
MAX_MESSAGE_BYTES = 20 * 1024 * 1024
# A dead letter is its record with a few headers more, and must fit whenever the record did.
MAX_DEAD_LETTER_BYTES = MAX_MESSAGE_BYTES + 1024 * 1024


@dataclass(frozen=True)
class Topic(Generic[M]):
    """A topic of the catalogue.

    retention_ms: -1 keeps records for ever, which every store's rebuild needs.
    write_scope: set on topics that producers outside the mesh write to; their events carry a
    token with this scope, and the tenant is the token's.
    """

    name: str
    message: type[M]
    owner: str
    partitions: int = 3
    retention_ms: int = FOREVER
    write_scope: str | None = None

    @property
    def dead_letter_name(self) -> str:
        return f"{self.name}.dlq"

    @property
    def type(self) -> str:
        """CloudEvents type, for example "tidemill.documents.submitted.v1"."""
        return f"tidemill.{self.name}"

    def configs(self) -> dict[str, str]:
        """Kafka's topic configuration; the broker stamps the time where tokens are checked."""
        stamp = "LogAppendTime" if self.write_scope else "CreateTime"
        return {
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            "message.timestamp.type": stamp,
        }


DOCUMENTS_SUBMITTED = Topic(
    "documents.submitted.v1", events.DocumentSubmitted, "ingest", write_scope="documents:write"
)
DOCUMENTS_WITHDRAWN = Topic(
    "documents.withdrawn.v1", events.DocumentWithdrawn, "ingest", write_scope="documents:write"
)
DOCUMENTS_CHUNKED = Topic("documents.chunked.v1", events.DocumentChunked, "ingest")
DOCUMENTS_REJECTED = Topic("documents.rejected.v1", events.DocumentRejected, "ingest")
DOCUMENTS_RETIRED = Topic("documents.retired.v1", events.DocumentRetired, "ingest")
CHUNKS_EMBEDDED = Topic("chunks.embedded.v1", events.ChunksEmbedded, "embedder")
DOCUMENTS_INDEXED = Topic("documents.indexed.v1", events.DocumentIndexed, "retriever")
ANSWERS_GENERATED = Topic("answers.generated.v1", events.AnswerGenerated, "inference")
FEEDBACK_RECORDED = Topic(
    "feedback.recorded.v1", events.FeedbackRecorded, "inference", write_scope="feedback:write"
)
ADAPTERS_TRAINED = Topic("adapters.trained.v1", events.AdapterTrained, "trainer")
RELEASES_CHANGED = Topic("releases.changed.v1", events.ReleaseChanged, "evaluator")
EVALUATIONS_COMPLETED = Topic("evaluations.completed.v1", events.EvaluationCompleted, "evaluator")
ALERTS_RAISED = Topic("alerts.raised.v1", events.AlertRaised, "monitor")
CONSUMERS_STOPPED = Topic("consumers.stopped.v1", events.ConsumerStopped, "every service")
BUDGETS_SET = Topic("budgets.set.v1", events.BudgetSet, "monitor")
RUNS_CHANGED = Topic("runs.changed.v1", events.RunChanged, "trainer")
SUITES_STORED = Topic("suites.stored.v1", events.SuiteStored, "evaluator")

CATALOGUE: tuple[Topic[Message], ...] = (
    DOCUMENTS_SUBMITTED,
    DOCUMENTS_WITHDRAWN,
    DOCUMENTS_CHUNKED,
    DOCUMENTS_REJECTED,
    DOCUMENTS_RETIRED,
    CHUNKS_EMBEDDED,
    DOCUMENTS_INDEXED,
    ANSWERS_GENERATED,
    FEEDBACK_RECORDED,
    ADAPTERS_TRAINED,
    RELEASES_CHANGED,
    EVALUATIONS_COMPLETED,
    ALERTS_RAISED,
    CONSUMERS_STOPPED,
    BUDGETS_SET,
    RUNS_CHANGED,
    SUITES_STORED,
)  # type: ignore[assignment]

DEAD_LETTER_RETENTION_MS = 30 * DAY_MS


def find_topic(name: str) -> Topic[Message]:
    """The catalogue's topic of that name; KeyError when there is none."""
    return {topic.name: topic for topic in CATALOGUE}[name]
