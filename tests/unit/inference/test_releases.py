"""The release in force and the canary follow the newest change of each release, in any order."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.domain.releases import (
    BASE,
    Choice,
    Release,
    Releases,
    State,
    canary_position,
    user_hash,
)

KEY = b"key of a test"


def change(
    name: str, state: State, epoch: int, parent: str = "base", share: float = 0.0
) -> Release:
    return Release(name, parent_release_id=parent, state=state, epoch=epoch, canary_share=share)


LIFE = [
    change("a", State.PROPOSED, 1),
    change("a", State.CANARY, 2, share=0.2),
    change("a", State.PROMOTED, 3),
    change("b", State.PROPOSED, 4, parent="a"),
    change("b", State.REJECTED, 5, parent="a"),
    change("c", State.PROPOSED, 6, parent="a"),
    change("c", State.CANARY, 7, parent="a", share=0.5),
]


def test_tenant_without_changes_is_answered_by_the_base_release() -> None:
    assert Releases([]).choose(0.0) == Choice(BASE, canary=False)
    assert Releases([]).find("base") == BASE
    assert Releases([]).find("a") is None


def test_proposed_and_rejected_releases_answer_nobody() -> None:
    releases = Releases(LIFE[:1] + LIFE[3:5])
    assert releases.in_force() is BASE
    assert releases.canary() is None


@settings(deadline=None)
@given(st.permutations([*LIFE, *LIFE[:3]]))
def test_order_and_repetition_of_changes_change_nothing(changes: list[Release]) -> None:
    releases = Releases(changes)
    assert releases.in_force().release_id == "a"
    assert releases.canary() == LIFE[6]


def test_stale_change_is_ignored() -> None:
    releases = Releases([LIFE[2], LIFE[1]])
    assert releases.in_force() == LIFE[2]
    assert releases.canary() is None


def test_promotion_takes_over_from_the_earlier_one() -> None:
    assert Releases([*LIFE, change("c", State.PROMOTED, 8, "a")]).in_force().release_id == "c"


def test_between_superseding_and_promotion_the_earlier_release_answers() -> None:
    assert Releases([*LIFE, change("a", State.SUPERSEDED, 8)]).in_force().release_id == "a"


def test_rollback_of_the_release_in_force_returns_to_its_parent() -> None:
    later = [
        change("a", State.SUPERSEDED, 8),
        change("c", State.PROMOTED, 9, "a"),
        change("c", State.ROLLED_BACK, 10, "a"),
    ]
    for order in itertools.permutations(later):
        assert Releases([*LIFE, *order]).in_force().release_id == "a"


def test_rollback_of_the_first_release_returns_to_the_base() -> None:
    changes = [
        replace(BASE, state=State.SUPERSEDED, epoch=3),
        change("a", State.PROMOTED, 4),
        change("x", State.SUPERSEDED, 5),
        change("a", State.ROLLED_BACK, 6),
    ]
    assert Releases(changes).in_force().release_id == "base"


def test_rolled_back_releases_that_name_each_other_end_at_the_base() -> None:
    changes = [
        replace(BASE, state=State.SUPERSEDED, epoch=1),
        change("a", State.ROLLED_BACK, 2, "b"),
        change("b", State.ROLLED_BACK, 3, "a"),
    ]
    assert Releases(changes).in_force().release_id == "base"


def test_canary_that_is_older_than_the_release_in_force_is_over() -> None:
    assert Releases([*LIFE, change("d", State.PROMOTED, 8)]).canary() is None


@pytest.mark.parametrize(("position", "canary"), [(0.0, True), (0.49, True), (0.5, False)])
def test_canary_answers_its_share(position: float, canary: bool) -> None:
    assert Releases(LIFE).choose(position).canary is canary


def test_share_of_users_is_met_and_sticky() -> None:
    users = [f"user-{number}" for number in range(20_000)]
    positions = [canary_position(KEY, "harbor", user, "c") for user in users]
    assert positions == [canary_position(KEY, "harbor", user, "c") for user in users]
    assert all(0.0 <= position < 1.0 for position in positions)
    for share in (0.05, 0.2, 0.5):
        chosen = sum(position < share for position in positions) / len(users)
        assert abs(chosen - share) < 4 * (share * (1 - share) / len(users)) ** 0.5


def test_users_of_one_canary_are_not_the_users_of_the_next() -> None:
    users = [f"user-{number}" for number in range(5_000)]
    first = {user for user in users if canary_position(KEY, "harbor", user, "c") < 0.2}
    second = {user for user in users if canary_position(KEY, "harbor", user, "d") < 0.2}
    assert 0.02 < len(first & second) / len(users) < 0.06


def test_user_hash_is_keyed_and_differs_by_tenant() -> None:
    assert user_hash(KEY, "harbor", "u1") == user_hash(KEY, "harbor", "u1")
    assert user_hash(KEY, "harbor", "u1") != user_hash(KEY, "quay", "u1")
    assert user_hash(KEY, "harbor", "u1") != user_hash(b"another", "harbor", "u1")
    assert user_hash(KEY, "harboru", "1") != user_hash(KEY, "harbor", "u1")
    assert "u1" not in user_hash(KEY, "harbor", "u1")
    assert user_hash(KEY, "harbor", "") == ""
