"""Ingest's ways to its rows and to the process that reads documents."""
