"""Transactions: their state machine, and the coordinator that carries out what it decides."""
