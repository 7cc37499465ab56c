"""Kafka's wire format: which versions are spoken, requests in, responses out."""
