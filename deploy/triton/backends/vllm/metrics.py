"""Reports the engine's figures under the names that vLLM uses."""

import time
from typing import Any

import triton_python_backend_utils as pb_utils
from cpu_engine.lane import Completion

SECONDS = [0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0]
COUNTERS = {
    "vllm:prompt_tokens_total": "Number of prefill tokens processed.",
    "vllm:generation_tokens_total": "Number of generation tokens processed.",
    "vllm:prefix_cache_queries_total": "Number of prompt tokens looked up in the prefix cache.",
    "vllm:prefix_cache_hits_total": "Number of prompt tokens found in the prefix cache.",
}
HISTOGRAMS = {
    "vllm:time_to_first_token_seconds": "Histogram of time to first token in seconds.",
    "vllm:time_per_output_token_seconds": "Histogram of time per output token in seconds.",
    "vllm:e2e_request_latency_seconds": "Histogram of end to end request latency in seconds.",
}
GAUGES = {
    "vllm:num_requests_running": "Number of requests currently running.",
    "vllm:num_requests_waiting": "Number of requests waiting to be processed.",
}


class Metrics:
    """Metric families of one model version. Whoever calls holds the door (door.py)."""

    def __init__(self, model: str, version: str) -> None:
        labels = {"model": model, "version": version}
        kinds = pb_utils.MetricFamily
        self._families: list[Any] = []
        self._metrics: dict[str, Any] = {}
        for names, kind in ((COUNTERS, kinds.COUNTER), (GAUGES, kinds.GAUGE)):
            for name, text in names.items():
                self._metrics[name] = self._family(name, text, kind).Metric(labels=labels)
        for name, text in HISTOGRAMS.items():
            family = self._family(name, text, kinds.HISTOGRAM)
            self._metrics[name] = family.Metric(labels=labels, buckets=SECONDS)

    def ended(self, completion: Completion) -> None:
        """Counts one completion, however it ended."""
        now, made = time.monotonic(), completion.produced
        self._metrics["vllm:prompt_tokens_total"].increment(completion.prompt_tokens)
        self._metrics["vllm:prefix_cache_queries_total"].increment(completion.prompt_tokens)
        self._metrics["vllm:prefix_cache_hits_total"].increment(completion.reused)
        self._metrics["vllm:generation_tokens_total"].increment(made)
        self._metrics["vllm:e2e_request_latency_seconds"].observe(now - completion.arrived)
        if completion.first is not None:
            first = completion.first - completion.arrived
            self._metrics["vllm:time_to_first_token_seconds"].observe(first)
            if made > 1:
                pace = (now - completion.first) / (made - 1)
                self._metrics["vllm:time_per_output_token_seconds"].observe(pace)

    def load(self, running: int, waiting: int) -> None:
        """How busy the engine is now."""
        self._metrics["vllm:num_requests_running"].set(running)
        self._metrics["vllm:num_requests_waiting"].set(waiting)

    def close(self) -> None:
        """Lets go of all metrics while Triton still listens: later the process would die of it."""
        self._metrics.clear()
        self._families.clear()

    def _family(self, name: str, text: str, kind: Any) -> Any:
        # The family must outlive its metrics, or the server forgets them.
        family = pb_utils.MetricFamily(name=name, description=text, kind=kind)
        self._families.append(family)
        return family
