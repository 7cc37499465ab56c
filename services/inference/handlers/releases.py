"""Follow the releases of every tenant and choose the one that answers."""

from collections.abc import Sequence

import structlog

from services.inference.adapters.adapter_shelf import AdapterShelf
from services.inference.adapters.store import adapters_in, save_release
from services.inference.domain.answer import Question
from services.inference.domain.prompts import DEFAULT_PROMPT
from services.inference.domain.releases import (
    GUARDRAIL_POLICY,
    ROUTING_POLICY,
    Adapter,
    Choice,
    Release,
    Releases,
    State,
    canary_position,
)
from tidemill.api.events.v1 import RELEASE_STATE_UNSPECIFIED, ReleaseChanged, ReleaseState
from tidemill.bus import Delivery
from tidemill.db import Database
from tidemill.faults import Fault, Reason

log = structlog.get_logger()

PRELOADED = (State.PROPOSED, State.CANARY, State.PROMOTED)
"""Releases in these states answer, or are about to: their adapters are loaded ahead of need."""


async def follow(message: ReleaseChanged, delivery: Delivery) -> None:
    """Take a change of a release into the projection; a stale one changes nothing."""
    change = release_of(message)
    if message.release.tenant_id != delivery.tenant_id:
        raise Fault(Reason.TENANT_MISMATCH)
    kept = await delivery.apply(lambda unit: save_release(unit.session, unit.tenant_id, change))
    log.info("release_changed", release=change.release_id, state=change.state.value, stale=not kept)


async def choose(
    releases: Releases, shelf: AdapterShelf, secret: bytes, question: Question, answer_id: str
) -> Choice:
    """The named release, or the canary for its share of the users, or the one in force.

    A user without an id gets a new place for every answer. Faults: RELEASE_NOT_FOUND;
    ADAPTER_UNAVAILABLE when the adapter cannot be had: the base model never stands in for it.
    """
    if question.release_id:
        return await _named(releases, shelf, question.release_id)
    chosen = _for_user(releases, secret, question, answer_id)
    try:
        await ensure_adapter(shelf, chosen.release)
    except Fault as fault:
        if not chosen.canary:
            raise
        log.warning("canary_skipped", release=chosen.release.release_id, reason=fault.reason.value)
        chosen = Choice(releases.in_force(), canary=False)
        await ensure_adapter(shelf, chosen.release)
    return chosen


class Preloading:
    """Keeps the adapters of releases that answer, or soon may, loaded."""

    def __init__(self, database: Database, shelf: AdapterShelf) -> None:
        self._database = database
        self._shelf = shelf
        self._done = False

    def is_done(self) -> bool:
        """Every adapter known at start was loaded or refused: a replica that has just started
        takes no questions for a release whose adapter it lacks."""
        return self._done

    async def turn(self) -> bool:
        """Load what is missing; one that fails waits for later. Whether any is still missing."""
        adapters = await adapters_in(self._database, PRELOADED)
        await preload(self._shelf, adapters)
        self._done = self._done or all(map(self._shelf.is_settled, adapters))
        return not all(map(self._shelf.holds, adapters))


async def preload(shelf: AdapterShelf, adapters: Sequence[Adapter]) -> None:
    for adapter in adapters:
        if not shelf.may_try(adapter):
            continue
        try:
            await shelf.ensure(adapter)
        except Fault as fault:
            log.warning("adapter_not_loaded", adapter=adapter.name, reason=fault.reason.value)


async def ensure_adapter(shelf: AdapterShelf, release: Release) -> None:
    if release.adapter:
        await shelf.ensure(release.adapter)


async def _named(releases: Releases, shelf: AdapterShelf, release_id: str) -> Choice:
    release = releases.find(release_id)
    if release is None:
        raise Fault(Reason.RELEASE_NOT_FOUND)
    await ensure_adapter(shelf, release)
    return Choice(release, canary=release.state is State.CANARY)


def _for_user(releases: Releases, secret: bytes, question: Question, answer_id: str) -> Choice:
    canary = releases.canary()
    if canary is None:
        return Choice(releases.in_force(), canary=False)
    user = question.end_user_id or answer_id
    return releases.choose(canary_position(secret, question.tenant_id, user, canary.release_id))


def release_of(message: ReleaseChanged) -> Release:
    """The change as a value; Fault(SCHEMA_INVALID) when it names no release or no state."""
    if not message.release.release_id or message.state == RELEASE_STATE_UNSPECIFIED:
        raise Fault(Reason.SCHEMA_INVALID, field="release")
    release = message.release
    adapter = Adapter(release.adapter, release.adapter_uri, release.adapter_hash)
    return Release(
        release_id=release.release_id,
        parent_release_id=release.parent_release_id,
        prompt_version=release.prompt_version or DEFAULT_PROMPT,
        adapter=adapter if release.adapter else None,
        guardrail_policy=release.guardrail_policy or GUARDRAIL_POLICY,
        routing_policy=release.routing_policy or ROUTING_POLICY,
        state=state_of(message.state),
        epoch=message.epoch,
        canary_share=message.canary_share,
    )


def state_of(number: int) -> State:
    """UNKNOWN for a number that this release of the contract does not name."""
    known = ReleaseState.DESCRIPTOR.values_by_number.get(number)
    name = known.name.removeprefix("RELEASE_STATE_") if known else ""
    return State.__members__.get(name, State.UNKNOWN)
