"""Contracts generated from proto/; never edited."""
