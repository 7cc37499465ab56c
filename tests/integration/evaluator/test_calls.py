"""The evaluator's calls: suites, comparison, paging, and their refusals."""

import pytest

from tests.integration.evaluator.conftest import Stage
from tests.integration.evaluator.standins import SAMPLES, Skill
from tidemill.api.evaluator import v1 as api
from tidemill.faults import Fault, Reason


def answers(skill: Skill) -> list[api.SampleAnswer]:
    made = []
    for sample in SAMPLES:
        done = skill.completion(sample.question)
        made.append(
            api.SampleAnswer(
                sample_id=sample.sample_id,
                text=done.text,
                refused=done.refused,
                cited_document_ids=[citation.document_id for citation in done.citations],
                duration_seconds=done.duration_seconds,
                cost_micros=done.usage.cost_micros,
            )
        )
    return made


async def test_a_caller_s_own_answers_are_compared_with_the_gate_s_test(stage: Stage) -> None:
    async with stage.evaluator():
        await stage.create_suite()
        found = await stage.call(
            "CompareAnswers",
            api.CompareAnswersRequest(
                suite_id="numbers", baseline=answers(Skill(2)), candidate=answers(Skill(9))[:30]
            ),
        )
    score = next(metric for metric in found.metrics if metric.metric == "score")
    assert found.sample_count == len(SAMPLES)
    assert score.baseline < score.candidate < 0.9
    assert score.p_value < 0.001


async def test_bad_calls_are_refused_with_their_reason(stage: Stage) -> None:
    compare = api.CompareAnswersRequest(suite_id="numbers", baseline=answers(Skill(2)))
    stranger = api.CompareAnswersRequest(
        suite_id="numbers", candidate=[api.SampleAnswer(sample_id="q-unknown")]
    )
    few = api.CreateSuiteRequest(suite_id="numbers", samples=[api.Sample(sample_id="q-1")])
    cases = [
        ("CompareAnswers", compare, Reason.NOT_FOUND),
        ("CreateSuite", few, Reason.INVALID_ARGUMENT),
        ("ListReleases", api.ListReleasesRequest(page_size=-1), Reason.INVALID_ARGUMENT),
        ("ListReleases", api.ListReleasesRequest(page_token="x"), Reason.INVALID_ARGUMENT),
        ("GetEvaluation", api.GetEvaluationRequest(evaluation_id="x"), Reason.NOT_FOUND),
        ("RollBackRelease", api.RollBackReleaseRequest(), Reason.RELEASE_NOT_FOUND),
    ]
    async with stage.evaluator():
        for method, request, reason in cases:
            with pytest.raises(Fault) as refused:
                await stage.call(method, request)
            assert refused.value.reason is reason, method
        await stage.create_suite()
        with pytest.raises(Fault) as unknown:
            await stage.call("CompareAnswers", stranger)
    assert unknown.value.metadata["field"] == "sample_id"


async def test_releases_come_page_by_page_newest_first(stage: Stage) -> None:
    stage.mesh.skills |= {"rel_a": Skill(1), "rel_b": Skill(1)}
    async with stage.evaluator():
        await stage.create_suite()
        await stage.train("a")
        await stage.mesh.until_state("rel_a", "REJECTED")
        await stage.train("b")
        await stage.mesh.until_state("rel_b", "REJECTED")
        names, token = [], ""
        for _ in range(3):
            page = await stage.call(
                "ListReleases", api.ListReleasesRequest(page_size=1, page_token=token)
            )
            names += [record.release.release_id for record in page.releases]
            token = page.next_page_token
    assert names == ["rel_b", "rel_a", "base"]
    assert token == ""
