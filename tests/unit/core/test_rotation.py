"""The mesh's key is replaced while processes with the old and the new one work side by side."""

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tidemill.clock import Clock
from tidemill.faults import Fault, StartRefused
from tidemill.security import rotation
from tidemill.security.keys import load_or_create_key, open_key
from tidemill.security.tokens import EVENT_AUDIENCE, RPC_AUDIENCE, Identity

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Wall(Clock):
    """A wall clock that a test sets."""

    time = NOON

    def now(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Wall:
    return Wall()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    load_or_create_key(tmp_path)
    return tmp_path


def started(folder: Path, clock: Wall) -> Identity:
    """A process that starts now."""
    return Identity(open_key(folder), "test", clock)


def takes(one: Identity, token: str, audience: str = RPC_AUDIENCE, **at: Any) -> bool:
    try:
        return one.verifier.verify(token, audience, **at).tenant_id == "acme"
    except Fault:
        return False


def test_no_good_token_is_refused_while_services_restart_one_after_the_other(
    folder: Path, clock: Wall
) -> None:
    before = started(folder, clock)
    rotation.make_next(folder)
    between = started(folder, clock)
    rotation.switch(folder, NOON + DAY)
    after = started(folder, clock)
    # Restarts of the first step, then those of the second.
    for one, other in ((before, between), (between, after)):
        assert takes(one, other.mint("acme", []))
        assert takes(other, one.mint("acme", []))
    assert open_key(folder).key_id != load_or_create_key(folder).trusted[0].key_id
    assert not takes(before, after.mint("acme", []))


def test_a_key_that_was_left_counts_until_its_time_and_on_the_log_for_ever(
    folder: Path, clock: Wall
) -> None:
    old = started(folder, clock)
    rotation.make_next(folder)
    rotation.switch(folder, NOON + DAY)
    event = old.mint("acme", [], audience=EVENT_AUDIENCE)
    clock.time = NOON + DAY - timedelta(minutes=1)
    new, late = started(folder, clock), old.mint("acme", [])
    assert takes(new, late)
    clock.time = NOON + DAY + timedelta(seconds=1)
    assert not takes(new, late)
    clock.time = NOON + 300 * DAY
    assert takes(new, event, EVENT_AUDIENCE, at=NOON)
    forged = old.mint("acme", [], audience=EVENT_AUDIENCE)
    assert not takes(new, forged, EVENT_AUDIENCE, at=clock.time)


def test_users_keep_their_pseudonyms(folder: Path, clock: Wall) -> None:
    first = started(folder, clock).keyed_hash_secret()
    for _ in range(2):
        rotation.make_next(folder)
        rotation.switch(folder, NOON)
        assert started(folder, clock).keyed_hash_secret() == first
    assert len(open_key(folder).trusted) == 2


def test_the_next_key_is_made_once_and_nothing_switches_without_it(folder: Path) -> None:
    with pytest.raises(StartRefused, match="NO_NEXT_KEY"):
        rotation.switch(folder, NOON)
    assert rotation.make_next(folder) == rotation.make_next(folder)


def test_without_a_key_there_is_no_next_one(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="KEY_MISSING"):
        rotation.make_next(tmp_path / "nowhere")


def test_a_folder_that_takes_no_files_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> int:  # root may write everywhere, so the kernel's answer is given here
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StartRefused, match="KEYS_NOT_WRITABLE"):
        rotation.make_next(folder)


def test_private_parts_are_readable_by_their_owner_alone(folder: Path) -> None:
    rotation.make_next(folder)
    modes = {f.name: f.stat().st_mode & 0o777 for f in folder.iterdir()}
    rotation.switch(folder, NOON)
    modes |= {f.name: f.stat().st_mode & 0o777 for f in folder.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"mesh.pem", "next.pem", "pseudonyms.secret"} <= modes.keys()


@pytest.mark.parametrize("step", range(1, 4))
def test_a_switch_that_was_killed_is_done_by_the_next(
    folder: Path, clock: Wall, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = started(folder, clock)
    rotation.make_next(folder)
    replace, calls = Path.replace, 0

    def killed(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == step:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            rotation.switch(folder, NOON + DAY)
    assert takes(started(folder, clock), old.mint("acme", []))
    rotation.switch(folder, NOON + DAY)
    new = started(folder, clock)
    assert takes(new, old.mint("acme", []))
    assert new.keyed_hash_secret() == old.keyed_hash_secret()
    assert open_key(folder).key_id != rotation.key_id_of(old._key.public.public_bytes_raw())


def test_a_damaged_trusted_key_keeps_the_process_from_starting(folder: Path) -> None:
    (folder / "trusted-x.json").write_text("{}")
    with pytest.raises(StartRefused, match="KEY_UNREADABLE"):
        open_key(folder)
