"""Effects of answers, feedback and releases: counted, kept and told once each."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC

from tests.ledger.documents import once
from tests.ledger.facts import Facts, Told
from tests.ledger.report import Disagreement, Kind
from tidemill import topics
from tidemill.api.events import v1 as events

Answer = Told[events.AnswerGenerated]
IN_FORCE = {"PROMOTED": "in force", "CANARY": "in canary", "PROPOSED": "proposed"}


def distinct_answers(facts: Facts, service: str) -> dict[tuple[str, str], Answer]:
    """The answers that a service applied, by tenant and answer id."""
    found: dict[tuple[str, str], Answer] = {}
    for event in facts.applied(service, topics.ANSWERS_GENERATED):
        found.setdefault((event.tenant_id, event.message.answer_id), event)
    return found


def rows_of(facts: Facts, service: str, table: str, column: str) -> Counter[tuple[str, str]]:
    return Counter((row["tenant_id"], row[column]) for row in facts.rows(service, table))


def inference(facts: Facts) -> Iterator[Disagreement]:
    """Each answer and feedback request was told once, and the newest change of a release stands."""
    told = Counter(
        (e.tenant_id, e.message.answer_id)
        for e in facts.told(topics.ANSWERS_GENERATED)
        if e.source == "inference"
    )
    rows = rows_of(facts, "inference", "answers", "answer_id")
    yield from once("AnswerGenerated of an answer", rows, told)
    feedback = Counter(
        (e.tenant_id, e.message.feedback_id)
        for e in facts.told(topics.FEEDBACK_RECORDED)
        if e.source == "inference"
    )
    requests = rows_of(facts, "inference", "feedback_requests", "feedback_id")
    yield from once("FeedbackRecorded of a request", requests, feedback, others=False)
    newest: dict[tuple[str, str], int] = {}
    for event in facts.applied("inference", topics.RELEASES_CHANGED):
        release = (event.tenant_id, event.message.release.release_id)
        newest[release] = max(event.message.epoch, newest.get(release, 0))
    followed = {
        (row["tenant_id"], row["release_id"]): row["epoch"]
        for row in facts.rows("inference", "releases")
    }
    yield from same("release that inference follows", newest, followed)


def same(where: str, wanted: dict[object, int], found: dict[object, int]) -> Iterator[Disagreement]:
    """Numbers by name: too low is lost, too high is doubled."""
    for name in wanted.keys() | found.keys():
        has, should = found.get(name, 0), wanted.get(name, 0)
        if has != should:
            kind = Kind.LOST if has < should else Kind.DOUBLED
            yield Disagreement(kind, where, f"{name}: {has} instead of {should}")


def trainer(facts: Facts) -> Iterator[Disagreement]:
    """Each answer and piece of feedback is kept once; what can be judged was; runs are told."""
    answers = distinct_answers(facts, "trainer")
    yield from once(
        "answer of the trainer", answers, rows_of(facts, "trainer", "answers", "answer_id")
    )
    feedback = {
        (e.tenant_id, e.message.feedback_id)
        for e in facts.applied("trainer", topics.FEEDBACK_RECORDED)
    }
    yield from once(
        "feedback of the trainer", feedback, rows_of(facts, "trainer", "feedback", "feedback_id")
    )
    for row in facts.rows("trainer", "feedback"):
        here = (row["tenant_id"], row["answer_id"]) in answers
        if row["state"] == "waiting" and here and not row["other"]:
            what = f"{row['feedback_id']} waits for an answer that is there"
            yield Disagreement(Kind.LOST, "verdict on feedback", what)
    done = Counter(r["run_id"] for r in facts.rows("trainer", "runs") if r["state"] == "succeeded")
    told = Counter(
        e.message.run_id for e in facts.told(topics.ADAPTERS_TRAINED) if e.source == "trainer"
    )
    yield from once("AdapterTrained of a run", done, told)


def monitor(facts: Facts) -> Iterator[Disagreement]:
    """The sums are those of the distinct answers, and each alert was told once."""
    answers = distinct_answers(facts, "monitor")
    kept = rows_of(facts, "monitor", "answers", "answer_id")
    yield from once("answer of the monitor", answers, kept)
    yield from _usage(facts, list(answers.values()))
    thumbs = {
        (e.tenant_id, e.message.answer_id)
        for e in facts.applied("monitor", topics.FEEDBACK_RECORDED)
        if e.message.HasField("thumb") and e.message.answer_id
    }
    yield from once("thumb", thumbs, rows_of(facts, "monitor", "thumbs", "answer_id"))
    alerts = rows_of(facts, "monitor", "alerts", "alert_id")
    told = Counter((e.tenant_id, e.message.alert_id) for e in facts.told(topics.ALERTS_RAISED))
    yield from once("AlertRaised", alerts, told)


def _usage(facts: Facts, answers: list[Answer]) -> Iterator[Disagreement]:
    sums: dict[object, Counter[str]] = defaultdict(Counter)
    spent: Counter[object] = Counter()
    asked: Counter[object] = Counter()
    for event in answers:
        said, usage = event.message, event.message.usage
        sums[event.tenant_id, said.release_id] += Counter(
            answers=1,
            refusals=int(said.refused),
            errors=int(said.finish_reason == "error"),
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_micros=usage.cost_micros,
        )
        day = said.answered_time.ToDatetime(tzinfo=UTC).date().isoformat()
        spent[event.tenant_id, day] += usage.cost_micros
        if said.purpose == events.PURPOSE_PRODUCTION and said.question_embedding:
            asked[event.tenant_id] += 1
    columns = ("answers", "refusals", "errors", "input_tokens", "output_tokens", "cost_micros")
    rows = {(r["tenant_id"], r["release_id"]): r for r in facts.rows("monitor", "usage")}
    for column in columns:
        wanted = {name: count[column] for name, count in sums.items()}
        found = {name: row[column] for name, row in rows.items()}
        yield from same(f"usage: {column}", wanted, found)
    days = {(r["tenant_id"], r["day"]): r["cost_micros"] for r in facts.rows("monitor", "spend")}
    yield from same("spend of a day", dict(spent), days)
    seen = {row["tenant_id"]: row["seen"] for row in facts.rows("monitor", "drift")}
    yield from same("questions of the drift watch", dict(asked), seen)


def evaluator(facts: Facts) -> Iterator[Disagreement]:
    """Epochs count up without gap or double, rows follow them, and one release is in force."""
    told = [e for e in facts.told(topics.RELEASES_CHANGED) if e.source == "evaluator"]
    epochs = {row["tenant_id"]: row["epoch"] for row in facts.rows("evaluator", "ledgers")}
    wanted = [(t, epoch) for t, last in epochs.items() for epoch in range(1, last + 1)]
    yield from once(
        "ReleaseChanged of an epoch", wanted, Counter((e.tenant_id, e.message.epoch) for e in told)
    )
    newest: dict[object, int] = {}
    for event in told:
        release = (event.tenant_id, event.message.release.release_id)
        newest[release] = max(event.message.epoch, newest.get(release, 0))
    rows = facts.rows("evaluator", "releases")
    found: dict[object, int] = {(r["tenant_id"], r["release_id"]): r["epoch"] for r in rows}
    yield from same("change of a release", newest, found)
    for (tenant, state), count in Counter((r["tenant_id"], r["state"]) for r in rows).items():
        if state in IN_FORCE and count > 1:
            what = f"{count} releases of {tenant} are {IN_FORCE[state]}"
            yield Disagreement(Kind.DOUBLED, "release ledger", what)
    yield from _adapters(facts)
    done = {r["evaluation_id"] for r in facts.rows("evaluator", "evaluations") if r["content"]}
    verdicts = Counter(e.message.evaluation_id for e in facts.told(topics.EVALUATIONS_COMPLETED))
    yield from once("EvaluationCompleted", done, verdicts)


def _adapters(facts: Facts) -> Iterator[Disagreement]:
    """An adapter that was trained waits, or is a release; never both."""
    waiting = rows_of(facts, "evaluator", "waiting_adapters", "adapter")
    releases = rows_of(facts, "evaluator", "releases", "release_id")
    found = Counter(waiting)
    for (tenant, release_id), count in releases.items():
        if release_id.startswith("rel_"):
            found[tenant, release_id.removeprefix("rel_")] += count
    trained = {
        (e.tenant_id, e.message.adapter)
        for e in facts.applied("evaluator", topics.ADAPTERS_TRAINED)
    }
    yield from once("place of a trained adapter", trained, found)


CHECKS = {
    "inference": (inference,),
    "trainer": (trainer,),
    "monitor": (monitor,),
    "evaluator": (evaluator,),
}
