"""Events in: trained adapters, live answers, thumbs."""

from functools import partial

from services.evaluator.handlers import canarying, proposing
from services.evaluator.handlers.parts import Parts
from tidemill import topics
from tidemill.wake import Wake, waking


def subscribe(parts: Parts, adapters: Wake) -> None:
    """One handler a topic. adapters: set once a trained one waits."""
    bus = parts.bus
    queue = partial(proposing.queue_adapter, parts=parts)
    bus.subscribe(topics.ADAPTERS_TRAINED, waking(adapters, queue))
    bus.subscribe(topics.ANSWERS_GENERATED, partial(canarying.note_answer, parts=parts))
    bus.subscribe(topics.FEEDBACK_RECORDED, canarying.note_thumb)
