"""Rows, the training process, and the loop that runs inside it."""
