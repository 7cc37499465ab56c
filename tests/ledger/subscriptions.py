"""Which service takes which topics. A test compares it with what the services subscribe to."""

from collections.abc import Iterator
from typing import Any

from tests.senders import passes_over
from tidemill import topics
from tidemill.topics import Topic

TAKES: dict[str, tuple[Topic[Any], ...]] = {
    "ingest": (topics.DOCUMENTS_SUBMITTED, topics.DOCUMENTS_WITHDRAWN, topics.DOCUMENTS_INDEXED),
    "embedder": (topics.DOCUMENTS_CHUNKED,),
    "retriever": (topics.CHUNKS_EMBEDDED, topics.DOCUMENTS_RETIRED),
    "inference": (topics.RELEASES_CHANGED, topics.FEEDBACK_SUBMITTED, topics.FEEDBACK_RECORDED),
    "trainer": (topics.ANSWERS_GENERATED, topics.FEEDBACK_RECORDED),
    "evaluator": (topics.ADAPTERS_TRAINED, topics.ANSWERS_GENERATED, topics.FEEDBACK_RECORDED),
    "monitor": (topics.ANSWERS_GENERATED, topics.FEEDBACK_RECORDED, topics.CONSUMERS_STOPPED),
}


def consumer_name(service: str, topic: Topic[Any]) -> str:
    """As in inbox rows and dead letters."""
    return f"{service}/{topic.name}"


def group_id(service: str, topic: Topic[Any]) -> str:
    """Of the Kafka consumer group."""
    return f"tidemill.{service}.{topic.name}"


def consumers(services: tuple[str, ...]) -> Iterator[tuple[str, Topic[Any]]]:
    """Every (service, topic) of those services whose records each leave a row in the inbox."""
    for service in services:
        for topic in TAKES[service]:
            if not passes_over(service, topic):
                yield service, topic
