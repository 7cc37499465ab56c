"""The figures on the Prometheus endpoint: one typed catalogue, labels bounded."""

from collections import Counter
from dataclasses import dataclass
from functools import partial

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.monitor.domain.answers import AnswerFacts

OTHER = "other"


@dataclass(frozen=True)
class Figure:
    """A figure of the endpoint; OpenTelemetry's name, and the labels that it may carry."""

    name: str
    unit: str
    description: str
    labels: tuple[str, ...]


ANSWERS = Figure(
    "tidemill.answers", "1", "Answers, refusals and errors.", ("tenant", "outcome", "purpose")
)
TOKENS = Figure("tidemill.tokens", "1", "Tokens read and written.", ("tenant", "direction"))
COST = Figure("tidemill.cost.micros", "1", "Spent, in millionths.", ("tenant",))
DURATION = Figure("tidemill.answer.duration", "s", "Seconds an answer took.", ("tenant",))
THUMBS = Figure("tidemill.thumbs", "1", "Thumbs of users.", ("tenant", "direction"))
ALERTS = Figure("tidemill.alerts", "1", "Alerts raised.", ("tenant", "reason"))
DRIFT_EFFECT = Figure(
    "tidemill.drift.effect",
    "",
    "Distance of the latest questions from the first ones.",
    ("tenant",),
)
DRIFT_P_VALUE = Figure(
    "tidemill.drift.p_value", "", "Chance of such a distance without drift.", ("tenant",)
)
CATALOGUE = (ANSWERS, TOKENS, COST, DURATION, THUMBS, ALERTS, DRIFT_EFFECT, DRIFT_P_VALUE)


class Figures:
    """Counts since the process started; a second delivery is not counted.

    The counts are plain numbers that the endpoint asks for: to tell a meter of each costs more than
    the rest of an answer's count.
    """

    def __init__(self, meter: Meter, max_tenants: int) -> None:
        self._counts: dict[Figure, Counter[tuple[str, ...]]] = {}
        for figure in (ANSWERS, TOKENS, COST, THUMBS, ALERTS):
            self._counts[figure] = Counter()
            callbacks = [partial(self._observe, figure)]
            meter.create_observable_counter(figure.name, callbacks, figure.unit, figure.description)
        self._duration = meter.create_histogram(DURATION.name, DURATION.unit, DURATION.description)
        self._gauges = {
            figure: meter.create_gauge(figure.name, figure.unit, figure.description)
            for figure in (DRIFT_EFFECT, DRIFT_P_VALUE)
        }
        self._max_tenants = max_tenants
        self._tenants: set[str] = set()

    def answer(self, facts: AnswerFacts) -> None:
        tenant = self._label(facts.tenant_id)
        outcome = outcome_of(facts)
        purpose = "production" if facts.production else "evaluation"
        self._counts[ANSWERS][tenant, outcome, purpose] += 1
        self._counts[TOKENS][tenant, "input"] += facts.input_tokens
        self._counts[TOKENS][tenant, "output"] += facts.output_tokens
        self._counts[COST][tenant,] += facts.cost_micros
        self._duration.record(facts.duration_seconds, {"tenant": tenant})

    def thumb(self, tenant_id: str, up: bool) -> None:
        self._counts[THUMBS][self._label(tenant_id), "up" if up else "down"] += 1

    def alert(self, tenant_id: str, reason: str) -> None:
        self._counts[ALERTS][self._label(tenant_id), reason] += 1

    def drift(self, tenant_id: str, effect: float, p_value: float) -> None:
        """The newest test; tenants without a label of their own show the last one tested."""
        labels = {"tenant": self._label(tenant_id)}
        self._gauges[DRIFT_EFFECT].set(effect, labels)
        self._gauges[DRIFT_P_VALUE].set(p_value, labels)

    def _observe(self, figure: Figure, options: CallbackOptions) -> list[Observation]:
        """In a thread of the endpoint's."""
        counts = self._counts[figure].copy()
        return [
            Observation(amount, dict(zip(figure.labels, labels, strict=True)))
            for labels, amount in counts.items()
        ]

    def _label(self, tenant_id: str) -> str:
        """The first tenants by name, the rest together: a label must not grow without bound."""
        if tenant_id not in self._tenants and len(self._tenants) >= self._max_tenants:
            return OTHER
        self._tenants.add(tenant_id)
        return tenant_id


def outcome_of(facts: AnswerFacts) -> str:
    """The label: error, caller (its time ran out or it asked for too much), refused, answered."""
    outcomes = {"error": facts.failed, "caller": facts.ended_by_caller, "refused": facts.refused}
    return next((name for name, holds in outcomes.items() if holds), "answered")
