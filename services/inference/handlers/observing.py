"""Telemetry of answers by OpenTelemetry's names for generative AI; never a text."""

from opentelemetry import trace
from opentelemetry.metrics import Meter

from services.inference.domain.answer import Answer


class Observer:
    """Describes answers on the current span and in histograms."""

    def __init__(self, meter: Meter, model: str) -> None:
        self._model = model
        self._tokens = meter.create_histogram("gen_ai.client.token.usage", unit="{token}")
        self._seconds = meter.create_histogram("gen_ai.server.request.duration", unit="s")
        self._first = meter.create_histogram("gen_ai.server.time_to_first_token", unit="s")

    def observe(self, answer: Answer) -> None:
        trace.get_current_span().set_attributes(self._attributes(answer))
        ended = {"gen_ai_response_finish_reason": answer.finish.value if answer.finish else ""}
        self._seconds.record(answer.duration_seconds, ended)
        if answer.first_token_seconds:
            self._first.record(answer.first_token_seconds)
        self._tokens.record(answer.usage.input_tokens, {"gen_ai_token_type": "input"})
        self._tokens.record(answer.usage.output_tokens, {"gen_ai_token_type": "output"})

    def _attributes(self, answer: Answer) -> dict[str, str | int | float | bool]:
        release = answer.choice.release
        return {
            "gen_ai.operation.name": "text_completion",
            "gen_ai.provider.name": "tidemill",
            "gen_ai.request.model": self._model,
            "gen_ai.request.max_tokens": answer.question.max_output_tokens,
            "gen_ai.request.temperature": 0.0,
            "gen_ai.response.finish_reasons": answer.finish.value if answer.finish else "",
            "gen_ai.usage.input_tokens": answer.usage.input_tokens,
            "gen_ai.usage.output_tokens": answer.usage.output_tokens,
            "tidemill.answer": answer.answer_id,
            "tidemill.release": release.release_id,
            "tidemill.adapter": release.adapter.name if release.adapter else "",
            "tidemill.canary": answer.choice.canary,
            "tidemill.refusal": answer.refusal.value if answer.refusal else "",
            "tidemill.chunks": len(answer.retrieved.chunks),
        }
