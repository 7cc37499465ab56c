"""What the journal keeps of topics."""

from pathlib import Path
from typing import Any
from uuid import UUID

from tidemill.broker.clock import SystemClock
from tidemill.broker.node import open_node
from tidemill.broker.settings import BrokerSettings
from tidemill.broker.storage.disk import Disk
from tidemill.broker.storage.journal import Journal


async def test_a_topic_keeps_its_id_and_its_settings(settings: BrokerSettings) -> None:
    node = open_node(settings, Disk(), SystemClock())
    node.topics.create("topic", 2, {"compression.type": "lz4", "internal.segment.bytes": "9"})
    made = node.topics.get("topic").topic_id
    node.close()
    again = open_node(settings, Disk(), SystemClock())
    topic = again.topics.with_id(made)
    assert (topic.name, topic.configs["compression.type"]) == ("topic", "lz4")
    assert topic.configs.append_rules.segment_bytes == 9
    again.close()


async def test_a_setting_that_an_earlier_release_took_does_not_stop_the_start(
    settings: BrokerSettings,
) -> None:
    _journaled(settings.data_dir, {"segment.bytes": "20000"})
    node = open_node(settings, Disk(), SystemClock())
    assert node.topics.get("old").configs.append_rules.segment_bytes == 20_000
    node.close()


def _journaled(folder: Path, configs: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    journal = Journal(folder / "journal", Disk())
    list(journal.replay())
    record: dict[str, Any] = {"kind": "topic", "name": "old", "id": UUID(int=7).hex}
    journal.append({**record, "partitions": 1, "configs": configs})
    journal.close()
