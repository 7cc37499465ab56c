"""A process that was frozen for longer than its session wakes up and harms nothing."""

from pathlib import Path

import pytest

from tests.outages.child import AFTER, RELAY
from tests.outages.zombies import zombie_rounds


@pytest.mark.timeout(180)
async def test_late_writes_of_a_frozen_process_change_nothing(tmp_path: Path) -> None:
    """Frozen between commit and offset, and between the broker's confirmation and the delete of
    its rows; zombie_rounds knows two more points."""
    found = await zombie_rounds(tmp_path, 2, (AFTER, RELAY))
    assert found == {"zombie_writes": 0, "rounds": 2}
