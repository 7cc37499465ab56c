"""What the journal keeps of groups: a generation, once given, does not come again."""

from pathlib import Path
from typing import Any

from tidemill.broker.clock import SystemClock
from tidemill.broker.groups.member import GroupState, JoinAttempt
from tidemill.broker.node import Node, open_node
from tidemill.broker.settings import BrokerSettings, GroupLimits
from tidemill.broker.storage.disk import Disk


def _open(folder: Path) -> Node:
    settings = BrokerSettings(data_dir=folder, groups=GroupLimits(initial_delay_ms=0))
    return open_node(settings, Disk(), SystemClock())


def _attempt(**changes: Any) -> JoinAttempt:
    values: dict[str, Any] = {
        "member_id": "",
        "instance_id": None,
        "client_id": "client",
        "client_host": "host",
        "session_ms": 10_000,
        "rebalance_ms": 10_000,
        "protocol_type": "consumer",
        "protocols": (("range", b""),),
        "assigns_id": False,
    }
    return JoinAttempt(**{**values, **changes})


async def test_a_journal_rewritten_amid_a_rebalance_keeps_the_generation(tmp_path: Path) -> None:
    node = _open(tmp_path)
    joined = await node.groups.join("g", _attempt())
    group = node.groups.find("g")
    assert group is not None
    assert (joined.generation, group.state) == (1, GroupState.COMPLETING)
    node.compact_journal()
    node.close()
    again = _open(tmp_path)
    assert (await again.groups.join("g", _attempt())).generation == 2
    again.close()
