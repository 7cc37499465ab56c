"""Inference's use cases: answer, explain, take feedback, follow releases."""
