"""Whose token an event of a test carries, and who passes it over."""

from typing import Any

from tidemill.security.tokens import service_subject
from tidemill.topics import Topic

OUTSIDE = "test"


def subject_of(topic: Topic[Any]) -> str:
    """The owner's, for a fact on a topic that takes submissions too; else an outsider's."""
    return service_subject(topic.owner) if topic.takes_both else OUTSIDE


def passes_over(service: str, topic: Topic[Any]) -> bool:
    """The owner of a topic that takes submissions too passes its own facts over, without a trace;
    the tests send no submissions there."""
    return topic.takes_both and topic.owner == service
