"""Events in: trained adapters, live answers, thumbs."""

from functools import partial

from services.evaluator.handlers import canarying, proposing
from services.evaluator.handlers.parts import Parts
from tidemill import topics
from tidemill.wake import Wake, waking

BATCH = 200


def subscribe(parts: Parts, adapters: Wake) -> None:
    """One handler per topic; none of them works outside its transaction. adapters: set once a
    trained one waits."""
    bus = parts.bus
    queue_adapter = waking(adapters, partial(proposing.queue_adapter, parts=parts))
    note_answer = partial(canarying.note_answer, parts=parts)
    bus.subscribe(topics.ADAPTERS_TRAINED, queue_adapter, look_first=False)
    bus.subscribe(topics.ANSWERS_GENERATED, note_answer, batch=BATCH, look_first=False)
    bus.subscribe(topics.FEEDBACK_RECORDED, canarying.note_thumb, batch=BATCH, look_first=False)
