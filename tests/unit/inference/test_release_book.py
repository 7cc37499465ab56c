"""Releases are kept in memory, and never for longer than their rows stand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.inference.adapters import release_book
from services.inference.adapters.release_book import OWN_SECONDS, ReleaseBook
from services.inference.adapters.store import Base, save_release
from services.inference.consumer import on_release_changed
from services.inference.domain.releases import Release, State
from tests.tables import create_tables
from tidemill.api.events.v1 import RELEASE_STATE_PROMOTED, ReleaseChanged
from tidemill.api.events.v1 import Release as ReleaseMessage
from tidemill.bus.delivery import AlreadyApplied, Delivery
from tidemill.bus.envelope import EVENT_ID, Record
from tidemill.clock import SystemClock
from tidemill.runtime import Runtime, open_runtime
from tidemill.settings import MeshSettings


class HandClock(SystemClock):
    """Its monotonic time stands still until a test moves it."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Replica:
    runtime: Runtime
    clock: HandClock
    book: ReleaseBook

    async def write(self, name: str, epoch: int, tenant: str = "harbor") -> None:
        release = Release(name, state=State.PROMOTED, epoch=epoch)
        await self.runtime.bus.write(
            tenant, lambda unit: save_release(unit.session, tenant, release)
        )

    async def in_force(self, tenant: str = "harbor") -> str:
        return (await self.book.of(tenant)).in_force().release_id

    def delivery(self) -> Delivery:
        bus, clock = self.runtime.bus, self.runtime.clock
        record = Record("releases", 0, 7, b"harbor/r1", b"", {EVENT_ID: "evt-1"}, clock.now())
        return Delivery(record, "inference/releases", "harbor", "r1", bus.commits, clock)


@pytest.fixture
async def replica(
    tmp_path: Path, mesh_settings: Callable[..., MeshSettings]
) -> AsyncIterator[Replica]:
    clock = HandClock()
    async with open_runtime("inference", mesh_settings(tmp_path)) as runtime:
        await create_tables(runtime.database, Base.metadata)
        yield Replica(runtime, clock, ReleaseBook(runtime.database, clock))


def promoted(epoch: int) -> ReleaseChanged:
    release = ReleaseMessage(tenant_id="harbor", release_id="r1")
    return ReleaseChanged(release=release, state=RELEASE_STATE_PROMOTED, epoch=epoch)


async def test_an_applied_change_is_in_force_at_once(replica: Replica) -> None:
    assert await replica.in_force() == "base"
    await on_release_changed(promoted(1), replica.delivery(), book=replica.book)
    assert await replica.in_force() == "r1"


async def test_a_change_that_an_earlier_try_committed_is_in_force_after_the_retry(
    replica: Replica,
) -> None:
    """That try was cut off before it could tell of it."""
    assert await replica.in_force() == "base"
    unheard = ReleaseBook(replica.runtime.database, replica.clock)
    await on_release_changed(promoted(1), replica.delivery(), book=unheard)
    with pytest.raises(AlreadyApplied):
        await on_release_changed(promoted(1), replica.delivery(), book=replica.book)
    assert await replica.in_force() == "r1"


async def test_rows_are_not_read_again_until_they_change(replica: Replica) -> None:
    assert await replica.book.of("harbor") is await replica.book.of("harbor")
    await replica.write("r1", 1)
    assert await replica.in_force() == "base"
    replica.book.forget("harbor")
    assert await replica.in_force() == "r1"


async def test_rows_that_were_read_before_a_change_are_not_kept(replica: Replica) -> None:
    reading = asyncio.create_task(replica.book.of("harbor"))
    await asyncio.sleep(0)
    replica.book.forget("harbor")
    await reading
    await replica.write("r1", 1)
    assert await replica.in_force() == "r1"


async def test_a_change_that_nobody_told_of_is_found_out(replica: Replica) -> None:
    assert await replica.in_force() == "base"
    await replica.write("r1", 1)
    replica.clock.seconds = OWN_SECONDS
    assert await replica.in_force() == "r1"


async def test_the_book_is_bounded(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_book, "MOST_TENANTS", 2)
    pages = [await replica.book.of(tenant) for tenant in ("a", "b", "c")]
    assert await replica.book.of("c") is pages[2]
    assert await replica.book.of("a") is not pages[0]
