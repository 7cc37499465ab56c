"""Kafka in: answers and feedback."""

from functools import partial

from services.trainer.domain.signals import answer_of, feedback_of
from services.trainer.handlers import feedback as handlers
from services.trainer.handlers.feedback import FeedbackMeter
from tidemill import topics
from tidemill.api.events.v1 import AnswerGenerated, FeedbackRecorded, Purpose
from tidemill.bus import Bus, Delivery
from tidemill.faults import Fault, Reason
from tidemill.ids import fits
from tidemill.wake import Wake, waking

BATCH = 200


def subscribe(bus: Bus, meter: FeedbackMeter, news: Wake) -> None:
    """One handler per topic; none of them works outside its transaction. news: set once there may
    be more to train on."""
    on_answer = waking(news, partial(on_answer_generated, meter=meter))
    on_feedback = waking(news, partial(on_feedback_recorded, meter=meter))
    bus.subscribe(topics.ANSWERS_GENERATED, on_answer, batch=BATCH, look_first=False)
    bus.subscribe(topics.FEEDBACK_RECORDED, on_feedback, batch=BATCH, look_first=False)


async def on_answer_generated(
    event: AnswerGenerated, delivery: Delivery, *, meter: FeedbackMeter
) -> None:
    if not event.answer_id:
        raise Fault(Reason.INVALID_ARGUMENT, field="answer_id")
    if event.tenant_id != delivery.tenant_id:
        raise Fault(Reason.TENANT_MISMATCH)
    evaluation = event.purpose == Purpose.PURPOSE_EVALUATION
    await handlers.record_answer(answer_of(event), evaluation, delivery, meter)


async def on_feedback_recorded(
    event: FeedbackRecorded, delivery: Delivery, *, meter: FeedbackMeter
) -> None:
    for name in ("feedback_id", "answer_id"):
        if not fits(getattr(event, name)):
            raise Fault(Reason.INVALID_ARGUMENT, field=name)
    feedback = feedback_of(event, delivery.time)
    if feedback is None:
        raise Fault(Reason.INVALID_ARGUMENT, field="signal")
    await handlers.record_feedback(feedback, delivery, meter)
