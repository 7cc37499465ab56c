"""The trainer's rows are lost: its signals, runs and lineage come back, and it trains nothing."""

from tests.integration.rebuilding import lost_and_rebuilt
from tests.integration.trainer.conftest import Stage, eventually
from tests.integration.trainer.test_learning import teach
from tidemill.api.trainer import v1 as api


async def test_a_data_set_and_its_run_come_back_and_nothing_is_trained_again(stage: Stage) -> None:
    async with stage.trainer():
        await teach(stage, range(8))
        event = await stage.trained()
        # Too few for a run of their own: the next data set, and one that teaches nothing.
        await teach(stage, range(8, 12))
        await stage.answer(12)
        await stage.correct(12, document="elsewhere")

        async def settled() -> bool:
            state = await stage.trigger()
            return state.pending_feedback == 4 and sum(state.excluded_feedback.values()) == 1

        await eventually(settled)
        lineage = await stage.call("GetLineage", api.GetLineageRequest(adapter=event.adapter))
        runs, trigger = await stage.runs(), await stage.trigger()

    rebuilt = await lost_and_rebuilt(stage.settings, "trainer")

    assert "dataset/harbor" in rebuilt.after
    async with stage.trainer():
        again = await stage.call("GetLineage", api.GetLineageRequest(adapter=event.adapter))
        assert (again, await stage.runs(), await stage.trigger()) == (lineage, runs, trigger)
