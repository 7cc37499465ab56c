"""The ledger's table of who takes what is the services' own."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.ledger.subscriptions import TAKES
from tidemill.bus import Bus
from tidemill.runtime import open_runtime
from tidemill.settings import SERVICES


@pytest.mark.parametrize("service", SERVICES)
async def test_the_table_names_what_the_service_subscribes_to(
    service: str, tmp_path: Path, mesh_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    subscribe = Bus.subscribe

    def noted(bus: Bus, topic: Any, *arguments: Any, **options: Any) -> Any:
        taken.append(topic.name)
        return subscribe(bus, topic, *arguments, **options)

    monkeypatch.setattr(Bus, "subscribe", noted)
    settings = mesh_settings(tmp_path, kafka="127.0.0.1:1")
    app = importlib.import_module(f"services.{service}.app")
    async with open_runtime(service, settings) as runtime, app.lifespan(runtime):
        pass
    assert sorted(taken) == sorted(topic.name for topic in TAKES[service])
