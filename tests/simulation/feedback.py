"""Answers, votes and releases under trouble: each is counted once, whatever order they come in.

Real: monitor, trainer and inference, from their subscriptions to their rows.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from random import Random

from tests.simulation import invariants
from tests.simulation.ledgers import read
from tests.simulation.traffic import Sender
from tests.simulation.world import World
from tidemill import topics
from tidemill.api.common.v1 import Usage
from tidemill.api.events.v1 import (
    PURPOSE_PRODUCTION,
    RELEASE_STATE_PROMOTED,
    RELEASE_STATE_SUPERSEDED,
    AnswerGenerated,
    Correction,
    FeedbackRecorded,
    FeedbackSubmitted,
    Release,
    ReleaseChanged,
    Thumb,
)

NAMES = ["monitor", "trainer", "inference"]
TENANTS = ("acme", "globex")


async def story(world: World) -> list[str]:
    load = Load(world)
    return await invariants.under_trouble(world, load.run, list, load.check)


@dataclass
class Load:
    """What product services and users do, and what must have come of it."""

    world: World

    def __post_init__(self) -> None:
        self._random = Random(f"{self.world.seed}/load")
        self._sender = Sender(self.world, self._random)

    async def run(self, seconds: float) -> None:
        works = [
            *(self._answer(tenant, n) for tenant in TENANTS for n in range(5)),
            *(self._judge(tenant, n) for tenant in TENANTS for n in range(4)),
            *(self._submit(tenant, n) for tenant in TENANTS for n in range(2)),
            *(self._change(tenant, epoch) for tenant in TENANTS for epoch in (1, 2, 3)),
            self._sender.poison(topics.FEEDBACK_RECORDED, "acme", "a-0"),
        ]
        await asyncio.gather(*(self._at(self._random.uniform(0.5, seconds), w) for w in works))

    async def _at(self, moment: float, work: object) -> None:
        await asyncio.sleep(moment)
        await work  # type: ignore[misc]

    async def _answer(self, tenant: str, number: int) -> None:
        """Answer ids of two tenants are the same: neither knows of the other."""
        message = AnswerGenerated(
            tenant_id=tenant,
            answer_id=f"a-{number}",
            release_id="base",
            purpose=PURPOSE_PRODUCTION,
            prompt=f"question {number}",
            completion="an answer [1]",
            usage=Usage(input_tokens=10, output_tokens=1 + number, cost_micros=7 + number),
        )
        message.answered_time.FromDatetime(self.world.clock.now())
        await self._sender.produce(topics.ANSWERS_GENERATED, tenant, f"a-{number}", message)

    async def _judge(self, tenant: str, number: int) -> None:
        answer = f"a-{self._random.randrange(5)}"
        message = FeedbackRecorded(feedback_id=f"f-{number}", answer_id=answer)
        if number % 2:
            message.thumb.CopyFrom(Thumb(up=self._random.random() < 0.5))
        else:
            message.correction.CopyFrom(Correction(text=f"better {number}", document_ids=["d"]))
        await self._sender.produce(topics.FEEDBACK_RECORDED, tenant, answer, message)

    async def _submit(self, tenant: str, number: int) -> None:
        """Feedback from outside, on an answer that inference never gave: it is refused once."""
        message = FeedbackSubmitted(answer_id=f"none-{number}", thumb_up=True)
        await self._sender.produce(topics.FEEDBACK_SUBMITTED, tenant, message.answer_id, message)

    async def _change(self, tenant: str, epoch: int) -> None:
        """Two replicas of the evaluator may publish the changes of a release in any order."""
        state = RELEASE_STATE_PROMOTED if epoch % 2 else RELEASE_STATE_SUPERSEDED
        release = Release(release_id="rel_a", tenant_id=tenant, parent_release_id="base")
        message = ReleaseChanged(release=release, state=state, epoch=epoch)
        await self._sender.produce(topics.RELEASES_CHANGED, tenant, "releases", message)

    # --- what must have come of it

    def check(self) -> list[str]:
        log = invariants.Log(self.world)
        if log.dead():
            return ["dead letters: a right event was given up"]
        return [
            *invariants.accounted(self.world, log),
            *invariants.published_once(log),
            *self._usage(log),
            *self._thumbs(log),
            *self._examples(log),
            *self._releases(log),
        ]

    def _usage(self, log: invariants.Log) -> list[str]:
        wanted: Counter[tuple[str, str]] = Counter()
        for event in log.first(topics.ANSWERS_GENERATED):
            message = event.decoded(AnswerGenerated)
            assert message
            wanted[event.tenant, "answers"] += 1
            wanted[event.tenant, "output"] += message.usage.output_tokens
            wanted[event.tenant, "cost"] += message.usage.cost_micros
        found: Counter[tuple[str, str]] = Counter()
        path = self.world.rows("monitor")
        query = "SELECT tenant_id, answers, output_tokens, cost_micros FROM usage"
        for tenant, answers, output, cost in read(path, query):
            found.update({(tenant, "answers"): answers, (tenant, "output"): output})
            found[tenant, "cost"] += cost
        spent: Counter[tuple[str, str]] = Counter()
        for tenant, cost in read(path, "SELECT tenant_id, cost_micros FROM spend"):
            spent[tenant, "cost"] += cost
        broken = [] if found == wanted else ["counts: usage is not the sum of the answers"]
        if any(spent[tenant, "cost"] != wanted[tenant, "cost"] for tenant in TENANTS):
            broken.append("counts: spending is not the sum of the answers")
        return broken

    def _thumbs(self, log: invariants.Log) -> list[str]:
        """One thumb an answer counts, for the release that answered, whichever came first."""
        judged = {
            (event.tenant, message.answer_id)
            for event in log.first(topics.FEEDBACK_RECORDED)
            if (message := event.decoded(FeedbackRecorded)) and message.HasField("thumb")
        }
        query = "SELECT SUM(reference_n + window_n) FROM watches WHERE metric='THUMBS_DOWN_SHARE'"
        ((counted,),) = read(self.world.rows("monitor"), query) or [(0,)]
        return [] if (counted or 0) == len(judged) else ["counts: thumbs were lost or doubled"]

    def _examples(self, log: invariants.Log) -> list[str]:
        path, broken = self.world.rows("trainer"), []
        said = {
            (event.tenant, message.feedback_id)
            for event in log.first(topics.FEEDBACK_RECORDED)
            if (message := event.decoded(FeedbackRecorded))
        }
        rows = read(path, "SELECT tenant_id, feedback_id, state FROM feedback")
        if {(tenant, feedback) for tenant, feedback, _ in rows} != said:
            broken.append("examples: feedback was lost or doubled")
        if any(state.lower() == "waiting" for _, _, state in rows):
            broken.append("examples: feedback waits for an answer that is there")
        return broken

    def _releases(self, log: invariants.Log) -> list[str]:
        newest: dict[str, int] = {}
        for event in log.first(topics.RELEASES_CHANGED):
            message = event.decoded(ReleaseChanged)
            assert message
            newest[event.tenant] = max(newest.get(event.tenant, 0), message.epoch)
        rows = dict(read(self.world.rows("inference"), "SELECT tenant_id, epoch FROM releases"))
        return [] if rows == newest else ["releases: a stale change is in force"]
