"""Evaluator: gates every release.

Consumes adapters.trained, answers.generated, feedback.recorded.
Serves EvaluatorService.
Emits evaluations.completed, releases.changed.
Owns held-out suites, evaluations and the release ledger.
"""
