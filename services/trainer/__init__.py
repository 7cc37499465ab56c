"""Learns LoRA adapters from feedback.

Consumes answers.generated and feedback.recorded; serves TrainerService (runs, trigger, lineage);
emits adapters.trained; owns training examples, data set snapshots and training runs.
"""
