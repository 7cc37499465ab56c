"""What monitor takes from an answer."""

import numpy as np
import pytest

from services.monitor.domain.answers import vector_of


def test_a_vector_is_read_from_little_endian_floats() -> None:
    assert vector_of(np.array([1.5, -2.0], dtype="<f4").tobytes()).tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    "embedding",
    [b"", b"abc", np.array([1.0, np.nan], dtype="<f4").tobytes()],
    ids=["empty", "cut", "not finite"],
)
def test_bytes_that_are_no_vector_are_left_out(embedding: bytes) -> None:
    assert vector_of(embedding).size == 0
