"""Every topic: its name, message, owner, key, partitions, retention and who may write to it.

A new topic is one declaration here; topics, dead letters, documents and checks follow from it.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from google.protobuf.message import Message

from tidemill.api.events import v1 as events

M = TypeVar("M", bound=Message)

DAY_MS = 24 * 60 * 60 * 1000
FOREVER = -1
COMMAND_RETENTION_MS = 7 * DAY_MS
DEAD_LETTER_RETENTION_MS = 30 * DAY_MS
MAX_MESSAGE_BYTES = 20 * 1024 * 1024
# A dead letter is its record with a few headers more, and must fit whenever the record did.
MAX_DEAD_LETTER_BYTES = MAX_MESSAGE_BYTES + 1024 * 1024


class Retention(Enum):
    """How long the records of a topic are kept, by what they are."""

    FACTS = "facts"
    """What happened; every store is rebuilt from it."""
    COMMANDS = "commands"
    """What outsiders asked for; the owner's facts say what became of it."""
    DEAD_LETTERS = "dead letters"

    @property
    def milliseconds(self) -> int:
        """For Kafka's retention.ms; -1 is for ever."""
        return RETENTION_MS[self]


RETENTION_MS = {
    Retention.FACTS: FOREVER,
    # They hold users' text unmasked, and no rebuild needs them.
    Retention.COMMANDS: COMMAND_RETENTION_MS,
    Retention.DEAD_LETTERS: DEAD_LETTER_RETENTION_MS,
}


@dataclass(frozen=True)
class Topic(Generic[M]):
    """A topic of the catalogue.

    aggregate: second part of the key "tenant/aggregate": a field of the message, or the word
    itself where all events of a tenant keep one order.
    write_scope: set on topics that producers outside the mesh write to; their events carry a
    token with this scope, and the tenant is the token's. On a topic of facts with one, only its
    owner's events are facts, and what others write there is a submission to the owner.
    """

    name: str
    message: type[M]
    owner: str
    aggregate: str
    partitions: int = 3
    retention: Retention = Retention.FACTS
    write_scope: str | None = None

    @property
    def dead_letter_name(self) -> str:
        return f"{self.name}.dlq"

    def is_submitted_to(self, service: str) -> bool:
        """Whether outsiders ask something of the service on it."""
        return self.write_scope is not None and self.owner == service

    @property
    def takes_both(self) -> bool:
        """Whether facts and submissions lie on it side by side."""
        return self.write_scope is not None and self.retention is Retention.FACTS

    @property
    def type(self) -> str:
        """CloudEvents type, for example "tidemill.documents.submitted.v1"."""
        return f"tidemill.{self.name}"

    def configs(self) -> dict[str, str]:
        """Kafka's topic configuration; the broker stamps the time where tokens are checked."""
        stamp = "LogAppendTime" if self.write_scope else "CreateTime"
        return {
            "retention.ms": str(self.retention.milliseconds),
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            "message.timestamp.type": stamp,
        }


def dead_letter_configs() -> dict[str, str]:
    """Kafka's configuration of every dead-letter topic."""
    return {
        "retention.ms": str(Retention.DEAD_LETTERS.milliseconds),
        "max.message.bytes": str(MAX_DEAD_LETTER_BYTES),
    }


DOCUMENTS_SUBMITTED = Topic(
    "documents.submitted.v1",
    events.DocumentSubmitted,
    "ingest",
    "document_id",
    retention=Retention.COMMANDS,
    write_scope="documents:write",
)
DOCUMENTS_WITHDRAWN = Topic(
    "documents.withdrawn.v1",
    events.DocumentWithdrawn,
    "ingest",
    "document_id",
    retention=Retention.COMMANDS,
    write_scope="documents:write",
)
DOCUMENTS_CHUNKED = Topic("documents.chunked.v1", events.DocumentChunked, "ingest", "document_id")
DOCUMENTS_REJECTED = Topic(
    "documents.rejected.v1", events.DocumentRejected, "ingest", "document_id"
)
DOCUMENTS_RETIRED = Topic("documents.retired.v1", events.DocumentRetired, "ingest", "document_id")
CHUNKS_EMBEDDED = Topic("chunks.embedded.v1", events.ChunksEmbedded, "embedder", "document_id")
DOCUMENTS_INDEXED = Topic(
    "documents.indexed.v1", events.DocumentIndexed, "retriever", "document_id"
)
ANSWERS_GENERATED = Topic("answers.generated.v1", events.AnswerGenerated, "inference", "answer_id")
FEEDBACK_SUBMITTED = Topic(
    "feedback.submitted.v1",
    events.FeedbackSubmitted,
    "inference",
    "answer_id",
    retention=Retention.COMMANDS,
    write_scope="feedback:write",
)
# Before there was feedback.submitted, outsiders wrote here; for one release inference still takes
# that as a submission. Then the scope goes.
FEEDBACK_RECORDED = Topic(
    "feedback.recorded.v1",
    events.FeedbackRecorded,
    "inference",
    "answer_id",
    write_scope="feedback:write",
)
ADAPTERS_TRAINED = Topic("adapters.trained.v1", events.AdapterTrained, "trainer", "adapter")
RELEASES_CHANGED = Topic("releases.changed.v1", events.ReleaseChanged, "evaluator", "releases")
EVALUATIONS_COMPLETED = Topic(
    "evaluations.completed.v1", events.EvaluationCompleted, "evaluator", "evaluation_id"
)
ALERTS_RAISED = Topic("alerts.raised.v1", events.AlertRaised, "monitor", "alert_id")
CONSUMERS_STOPPED = Topic(
    "consumers.stopped.v1", events.ConsumerStopped, "every service", "consumer"
)
BUDGETS_SET = Topic("budgets.set.v1", events.BudgetSet, "monitor", "budget")
RUNS_CHANGED = Topic("runs.changed.v1", events.RunChanged, "trainer", "run_id")
SUITES_STORED = Topic("suites.stored.v1", events.SuiteStored, "evaluator", "suites")

CATALOGUE: tuple[Topic[Message], ...] = tuple(
    value for value in [*globals().values()] if isinstance(value, Topic)
)
"""Every topic that is declared above, in that order."""


def find_topic(name: str) -> Topic[Message]:
    """The catalogue's topic of that name; KeyError when there is none."""
    return {topic.name: topic for topic in CATALOGUE}[name]
