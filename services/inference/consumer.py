"""Kafka in: one function a topic."""

from functools import partial

from services.inference.adapters.release_book import ReleaseBook
from services.inference.domain.feedback import Given, submission_of
from services.inference.handlers import feedback
from services.inference.handlers.feedback import FeedbackTaking
from services.inference.handlers.releases import follow
from tidemill import topics
from tidemill.api.events.v1 import FeedbackRecorded, FeedbackSubmitted, ReleaseChanged
from tidemill.bus import Bus, Delivery
from tidemill.faults import Reason
from tidemill.ids import fits
from tidemill.wake import Wake, waking

BATCH = 200


def subscribe(bus: Bus, book: ReleaseBook, taking: FeedbackTaking, changes: Wake) -> None:
    """changes: set once releases may have changed."""
    follow_release = waking(changes, partial(on_release_changed, book=book))
    bus.subscribe(
        topics.RELEASES_CHANGED, follow_release, timeout=30.0, max_concurrency=1, look_first=False
    )
    take = partial(on_feedback_submitted, taking=taking)
    bus.subscribe(topics.FEEDBACK_SUBMITTED, take, batch=BATCH, look_first=False)
    take_old = partial(on_feedback_recorded, taking=taking)
    bus.subscribe(
        topics.FEEDBACK_RECORDED, take_old, batch=BATCH, look_first=False, submissions=True
    )


async def on_release_changed(
    message: ReleaseChanged, delivery: Delivery, *, book: ReleaseBook
) -> None:
    """Whatever becomes of this try, its rows may be committed: a retry that finds them so ends
    here too."""
    try:
        await follow(message, delivery)
    finally:
        book.forget(delivery.tenant_id)


async def on_feedback_submitted(
    message: FeedbackSubmitted, delivery: Delivery, *, taking: FeedbackTaking
) -> None:
    given = Given(message, delivery.time)
    await feedback.take_submission(taking, given, delivery)


async def on_feedback_recorded(
    message: FeedbackRecorded, delivery: Delivery, *, taking: FeedbackTaking
) -> None:
    """For one release: what clients of the release before submit as a fact. It keeps the id that
    they gave it, under which its consumers of then may know it."""
    if not fits(message.feedback_id):
        rejected = partial(feedback.reject, reason=Reason.INVALID_ARGUMENT.value)
        await delivery.apply(rejected)
        return
    given = Given(submission_of(message), delivery.time)
    await feedback.take(taking, given, delivery, message.feedback_id)
