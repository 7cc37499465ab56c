"""Use cases: take in answers and feedback, run trainings, answer questions about them."""
