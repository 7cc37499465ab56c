"""Events in: trained adapters, live answers, thumbs."""

from functools import partial

from services.evaluator.handlers import canarying, proposing
from services.evaluator.handlers.parts import Parts
from tidemill import topics


def subscribe(parts: Parts) -> None:
    """One handler a topic."""
    bus = parts.bus
    bus.subscribe(topics.ADAPTERS_TRAINED, partial(proposing.queue_adapter, parts=parts))
    bus.subscribe(topics.ANSWERS_GENERATED, partial(canarying.note_answer, parts=parts))
    bus.subscribe(topics.FEEDBACK_RECORDED, canarying.note_thumb)
