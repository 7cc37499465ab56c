"""Monitor: watches drift, quality, latency and cost.

Consumes answers.generated, feedback.recorded, consumers.stopped.
Serves MonitorService and the figures of the Prometheus endpoint.
Emits alerts.raised.
Owns usage, baselines, budgets and alerts.
"""
