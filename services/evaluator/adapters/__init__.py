"""Rows of the evaluator, and the mesh services that it asks."""
