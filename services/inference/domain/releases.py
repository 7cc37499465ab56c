"""Which release answers: the one in force, the canary for its share of the users, or a named one.

The projection keeps the newest change of each release. That makes it the same whatever the order
in which changes arrive, and however often.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from services.inference.domain.prompts import DEFAULT_PROMPT

BASE_RELEASE_ID = "base"
GUARDRAIL_POLICY = "sentence-guard@1"
ROUTING_POLICY = "one-model@1"


class State(StrEnum):
    """Where a release stands; names of ReleaseState without their prefix."""

    PROPOSED = "PROPOSED"
    REJECTED = "REJECTED"
    CANARY = "CANARY"
    PROMOTED = "PROMOTED"
    ROLLED_BACK = "ROLLED_BACK"
    SUPERSEDED = "SUPERSEDED"
    UNKNOWN = "UNKNOWN"
    """A state that only a newer evaluator knows: the release does not answer."""


USABLE = frozenset({State.PROPOSED, State.CANARY, State.PROMOTED, State.SUPERSEDED})
"""States in which an adapter is kept ready: the release answers, or may soon."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter: its immutable name and where its files are."""

    name: str
    uri: str
    hash: str


@dataclass(frozen=True)
class Release:
    """One release as of its newest change."""

    release_id: str
    parent_release_id: str = ""
    prompt_version: str = DEFAULT_PROMPT
    adapter: Adapter | None = None
    guardrail_policy: str = GUARDRAIL_POLICY
    routing_policy: str = ROUTING_POLICY
    state: State = State.PROMOTED
    epoch: int = 0
    canary_share: float = 0.0


BASE = Release(BASE_RELEASE_ID)
"""Every tenant's first release: the base model with the default prompt."""


@dataclass(frozen=True)
class Choice:
    """The release that answers, and whether it does so as a canary."""

    release: Release
    canary: bool


class Releases:
    """All releases of one tenant."""

    def __init__(self, known: Iterable[Release]) -> None:
        self._by_id = {BASE_RELEASE_ID: BASE}
        for release in known:
            self._by_id[release.release_id] = newer(self._by_id.get(release.release_id), release)

    def find(self, release_id: str) -> Release | None:
        """The release of that id, in whatever state."""
        return self._by_id.get(release_id)

    def in_force(self) -> Release:
        """The newest promoted one; without any, the one that was in force before."""
        return self._newest(State.PROMOTED) or self._previous()

    def canary(self) -> Release | None:
        """The newest canary that started after the release in force."""
        found = self._newest(State.CANARY)
        return found if found and found.epoch > self.in_force().epoch else None

    def choose(self, position: float) -> Choice:
        """The release for a user at this position between 0 and 1 among the canary's users."""
        canary = self.canary()
        if canary and position < canary.canary_share:
            return Choice(canary, canary=True)
        return Choice(self.in_force(), canary=False)

    def _previous(self) -> Release:
        """What answers after a roll-back, or until the news of a promotion arrives."""
        last = self._newest(State.ROLLED_BACK, State.SUPERSEDED)
        seen: set[str] = set()
        while last and last.state is State.ROLLED_BACK and last.release_id not in seen:
            seen.add(last.release_id)
            last = self._by_id.get(last.parent_release_id)
        return last if last and last.state is State.SUPERSEDED else self._by_id[BASE_RELEASE_ID]

    def _newest(self, *states: State) -> Release | None:
        changed = (release for release in self._by_id.values() if release is not BASE)
        found = [release for release in changed if release.state in states]
        return max(found, key=lambda release: release.epoch, default=None)


def newer(known: Release | None, change: Release) -> Release:
    """The one with the higher epoch; a stale or repeated change loses."""
    return change if known is None or change.epoch > known.epoch else known


def user_hash(key: bytes, tenant_id: str, end_user_id: str) -> str:
    """Hexadecimal; the same user has the same hash within a tenant and another in the next."""
    return _keyed(key, "user", tenant_id, end_user_id).hex() if end_user_id else ""


def canary_position(key: bytes, tenant_id: str, end_user_id: str, release_id: str) -> float:
    """At least 0 and below 1, evenly spread and fixed for a user and a release."""
    digest = _keyed(key, "canary", tenant_id, end_user_id, release_id)
    return int.from_bytes(digest[:6], "big") / 2**48


def _keyed(key: bytes, *parts: str) -> bytes:
    message = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
    return hmac.new(key, message, hashlib.sha256).digest()
