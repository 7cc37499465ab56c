"""A candidate's way through the gate and the canary, over the real broker and gRPC."""

import pytest

from services.evaluator.domain.verdicts import decide_again
from tests.integration.evaluator.conftest import Stage
from tests.integration.evaluator.standins import BASE, SAMPLES, Skill, state_name
from tidemill.api.evaluator import v1 as api
from tidemill.faults import Fault, Reason


async def test_a_better_adapter_is_gated_canaried_and_promoted(stage: Stage) -> None:
    stage.mesh.skills["rel_harbor-v1"] = Skill(right_of_ten=9)
    async with stage.evaluator():
        digest = await stage.create_suite()
        await stage.train("harbor-v1")
        canary = await stage.mesh.until_state("rel_harbor-v1", "CANARY")
        assert canary.canary_share == 0.25
        await stage.answer("rel_harbor-v1", 20)
        await stage.answer(BASE, 20)
        await stage.mesh.until_state(BASE, "SUPERSEDED")
        page = await stage.call("ListReleases", api.ListReleasesRequest())
        verdict = await stage.call(
            "GetEvaluation", api.GetEvaluationRequest(evaluation_id=canary.evaluation_id)
        )

    assert stage.mesh.states() == [
        (BASE, "PROMOTED"),
        ("rel_harbor-v1", "PROPOSED"),
        ("rel_harbor-v1", "CANARY"),
        ("rel_harbor-v1", "PROMOTED"),
        (BASE, "SUPERSEDED"),
    ]
    assert [change.epoch for change in stage.mesh.changes] == [1, 2, 3, 4, 5]
    release = stage.mesh.changes[1].release
    assert (release.parent_release_id, release.adapter) == (BASE, "harbor-v1")
    assert (release.adapter_hash, release.embedding_model_version) == ("ab" * 32, "minilm-1")
    assert [(r.release.release_id, state_name(r.state)) for r in page.releases] == [
        ("rel_harbor-v1", "PROMOTED"), (BASE, "SUPERSEDED"),
    ]  # fmt: skip
    event = stage.mesh.verdicts[0]
    assert verdict.evaluation == event
    assert (event.suite_hash, event.look, len(event.samples)) == (digest, 1, len(SAMPLES))
    assert decide_again(event).passed
    assert stage.mesh.scopes == {frozenset({"answers:write", "releases:evaluate"})}


async def test_a_worse_adapter_is_rejected_without_asking_what_cannot_matter(
    stage: Stage,
) -> None:
    """The baseline is asked once; a candidate that cannot pass any more is not asked on."""
    stage.mesh.skills |= {"rel_bad": Skill(1), "rel_worse": Skill(0)}
    async with stage.evaluator():
        await stage.create_suite()
        await stage.train("bad")
        await stage.train("worse")
        first = await stage.mesh.until_state("rel_bad", "REJECTED")
        second = await stage.mesh.until_state("rel_worse", "REJECTED")
    assert "NO_SIGNIFICANT_GAIN" in first.reasons
    assert "EFFECT_TOO_SMALL" in second.reasons
    assert [verdict.look for verdict in stage.mesh.verdicts] == [1, 2]
    assert stage.mesh.asked_of(BASE) == len(SAMPLES)
    assert "STOPPED_EARLY" in second.reasons
    verdict = stage.mesh.verdicts[1]
    asked = sum(not sample.candidate_result.assumed for sample in verdict.samples)
    assert asked == stage.mesh.asked_of("rel_worse") < len(SAMPLES) == len(verdict.samples)
    assert decide_again(verdict).reasons == tuple(second.reasons)
    # One candidate at a time: the second is proposed once the first has its verdict.
    assert stage.mesh.states()[2:4] == [("rel_bad", "REJECTED"), ("rel_worse", "PROPOSED")]


async def test_a_canary_that_fails_is_rolled_back_at_once(stage: Stage) -> None:
    stage.mesh.skills["rel_brittle"] = Skill(9)
    async with stage.evaluator():
        await stage.create_suite()
        await stage.train("brittle")
        await stage.mesh.until_state("rel_brittle", "CANARY")
        await stage.answer("rel_brittle", 4, error=True)
        change = await stage.mesh.until_state("rel_brittle", "ROLLED_BACK")
    assert list(change.reasons) == ["CANARY_ERRORS"]


async def test_a_rollback_needs_nothing_but_the_ledger(stage: Stage) -> None:
    stage.mesh.skills["rel_v1"] = Skill(9)
    async with stage.evaluator():
        await stage.create_suite()
        await stage.train("v1")
        await stage.mesh.until_state("rel_v1", "CANARY")
        await stage.answer("rel_v1", 20)
        await stage.answer(BASE, 20)
        await stage.mesh.until_state("rel_v1", "PROMOTED")
        done = await stage.call("RollBackRelease", api.RollBackReleaseRequest(release_id="rel_v1"))
        assert state_name(done.release.state) == "ROLLED_BACK"
        assert list(done.release.reasons) == ["REQUESTED"]
        with pytest.raises(Fault) as again:
            await stage.call("RollBackRelease", api.RollBackReleaseRequest(release_id="rel_v1"))
        await stage.mesh.until_state("rel_v1", "ROLLED_BACK")
    assert again.value.reason is Reason.FAILED_PRECONDITION
    assert stage.mesh.states()[-2:] == [(BASE, "PROMOTED"), ("rel_v1", "ROLLED_BACK")]


async def test_another_tenant_sees_and_moves_nothing(stage: Stage) -> None:
    stage.mesh.skills["rel_v1"] = Skill(1)
    async with stage.evaluator():
        await stage.create_suite()
        await stage.train("v1")
        change = await stage.mesh.until_state("rel_v1", "REJECTED")
        page = await stage.call("ListReleases", api.ListReleasesRequest(), tenant="other")
        assert len(page.releases) == 0
        for method, request in (
            ("RollBackRelease", api.RollBackReleaseRequest(release_id=BASE)),
            ("GetEvaluation", api.GetEvaluationRequest(evaluation_id=change.evaluation_id)),
        ):
            with pytest.raises(Fault) as refused:
                await stage.call(method, request, tenant="other")
            assert refused.value.reason in (Reason.RELEASE_NOT_FOUND, Reason.NOT_FOUND)
