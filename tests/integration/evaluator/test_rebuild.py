"""The evaluator's rows are lost in the middle of a canary: ledger, verdict, suite and queue come
back, no verdict is given twice, and the canary goes on."""

from services.evaluator.adapters.evaluations import tenants_waiting
from tests.integration.evaluator.conftest import Stage
from tests.integration.evaluator.standins import BASE, SAMPLES, Skill
from tests.integration.rebuilding import lost_and_rebuilt
from tests.waiting import eventually
from tidemill.api.evaluator import v1 as api


async def test_the_ledger_comes_back_and_the_canary_goes_on(stage: Stage) -> None:
    stage.mesh.skills["rel_harbor-v1"] = Skill(right_of_ten=9)
    async with stage.evaluator() as runtime:
        await stage.create_suite()
        await stage.train("harbor-v1")
        canary = await stage.mesh.until_state("rel_harbor-v1", "CANARY")
        await stage.answer("rel_harbor-v1", 10)
        await stage.answer(BASE, 20)
        await stage.train("harbor-v2")
        await eventually(lambda: runtime.database.read(tenants_waiting))
        page = await stage.call("ListReleases", api.ListReleasesRequest())
    asked = stage.mesh.asked_of("rel_harbor-v1")

    await lost_and_rebuilt(stage.settings, "evaluator")

    assert stage.mesh.asked_of("rel_harbor-v1") == asked == len(SAMPLES)
    async with stage.evaluator():
        again = await stage.call("ListReleases", api.ListReleasesRequest())
        assert again == page
        verdict = await stage.call(
            "GetEvaluation", api.GetEvaluationRequest(evaluation_id=canary.evaluation_id)
        )
        assert verdict.evaluation == stage.mesh.verdicts[0]
        # Ten answers before the loss and ten after it make the twenty that a canary needs.
        await stage.answer("rel_harbor-v1", 10)
        await stage.mesh.until_state(BASE, "SUPERSEDED")
        await stage.mesh.until_state("rel_harbor-v2", "PROPOSED")
    assert [change.epoch for change in stage.mesh.changes] == [1, 2, 3, 4, 5, 6]
    assert len(stage.mesh.verdicts) == 1
