"""What ingest does with events and with calls."""
