"""Events in: answers, feedback, and consumers that stopped."""

from functools import partial

from services.monitor.handlers import counting, stopping
from services.monitor.handlers.parts import Parts
from tidemill import topics
from tidemill.wake import Wake, waking

BATCH = 200


def subscribe(parts: Parts, answers: Wake) -> None:
    """One handler per topic; none of them works outside its transaction. answers: set once one is
    counted."""
    bus = parts.bus
    count_answer = waking(answers, partial(counting.count_answer, parts=parts))
    count_thumb = partial(counting.count_thumb, parts=parts)
    tell_stop = partial(stopping.tell_stop, parts=parts)
    bus.subscribe(topics.ANSWERS_GENERATED, count_answer, batch=BATCH, look_first=False)
    bus.subscribe(topics.FEEDBACK_RECORDED, count_thumb, batch=BATCH, look_first=False)
    bus.subscribe(topics.CONSUMERS_STOPPED, tell_stop, look_first=False)
