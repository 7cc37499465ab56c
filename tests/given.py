"""Real parts that whoever runs the tests has, named by variables."""

import os

import pytest


def given(variable: str, what: str) -> str:
    """What the variable names; the test is skipped without it."""
    address = os.environ.get(variable, "")
    if not address:
        pytest.skip(f"{variable} names no {what}")
    return address
