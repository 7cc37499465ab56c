"""Builds a service's store again from the log, beside the one in use, and swaps the two."""
