"""Events in: answers, feedback, and consumers that stopped."""

from functools import partial

from services.monitor.handlers import counting, stopping
from services.monitor.handlers.parts import Parts
from tidemill import topics
from tidemill.wake import Wake, waking


def subscribe(parts: Parts, answers: Wake) -> None:
    """One handler a topic. answers: set once one is counted."""
    count = waking(answers, partial(counting.count_answer, parts=parts))
    parts.bus.subscribe(topics.ANSWERS_GENERATED, count)
    parts.bus.subscribe(topics.FEEDBACK_RECORDED, partial(counting.count_thumb, parts=parts))
    parts.bus.subscribe(topics.CONSUMERS_STOPPED, partial(stopping.tell_stop, parts=parts))
