"""Timers: runs are planned, and one training process at a time is looked after."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from services.trainer.adapters import process, runs_store
from services.trainer.adapters.process import Bounds, Launch, Training
from services.trainer.adapters.run_folder import PLAN, Failure, Result
from services.trainer.adapters.store import RunRow
from services.trainer.handlers import runs
from services.trainer.handlers.runs import Place, Rules
from tidemill.faults import Fault, Reason
from tidemill.modelserver import weights
from tidemill.modelserver.weights import Weights, WeightsFailed
from tidemill.wake import Wake

FOLDER_GONE = Failure("RUN_FOLDER_GONE", final=True)


@dataclass
class TrainingSchedule:
    """`plan` and `train` may be the work of two processes that share the folder of runs."""

    place: Place
    rules: Rules
    bounds: Bounds
    home: Path
    niceness: int
    launch: Launch = field(default_factory=Launch)
    training: Training | None = field(default=None)
    too_few: dict[str, int] = field(default_factory=dict)
    news: Wake = field(default_factory=Wake)
    """Set when feedback was judged, a run planned or a run ended."""

    async def plan(self) -> bool:
        """A new run, once the feedback of a tenant is worth one and no other is under way. Whether
        time alone may bring one about: a tenant's feedback must pause first."""
        if await self._unfinished() is not None:
            return False
        due = await runs.due_tenant(self.place, self.rules, self.too_few)
        if due is None:
            return await runs.may_come_due(self.place, self.rules, self.too_few)
        base = await asyncio.to_thread(base_model, self.home)
        await runs.plan_run(self.place, self.rules, *due, base)
        self.news.set()
        return False

    async def train(self) -> bool:
        """Look after the process in hand, or start that of the oldest unfinished run. Whether there
        is anything to do."""
        if self.training is not None:
            await self._look_after(self.training)
            return True
        row = await self._unfinished()
        if row is not None:
            await self._start(row)
        return row is not None

    async def follow(self) -> bool:
        """Take part in the run that machine 0 leads, which alone keeps its rows. Whether there is
        anything to do."""
        row = await self._unfinished()
        if self.training is not None and self._over(self.training, row):
            await self.close()
            self.training = None
        elif self.training is None and row is not None and self._planned(row):
            await self._launch(row)
        return row is not None

    def _planned(self, row: RunRow) -> bool:
        return (self.place.run(row.run_id) / PLAN).exists()

    def _over(self, training: Training, row: RunRow | None) -> bool:
        return training.ended or row is None or row.run_id != training.run_id

    async def close(self) -> None:
        """Stop the process; the run goes on from its checkpoint at the next start."""
        if self.training is not None:
            await self.training.stop()

    async def _look_after(self, training: Training) -> None:
        before = training.progress
        progress = training.look(self.bounds)
        if progress is not None and progress != before:
            await runs.note_progress(self.place, training.run_id, progress)
        if training.ended:
            await self._end(training)
            self.training = None
            self.news.set()

    async def _end(self, training: Training) -> None:
        outcome = training.outcome()
        if isinstance(outcome, Result):
            await runs.succeed(self.place, training.run_id, outcome)
        else:
            await runs.fail(self.place, self.rules, training.run_id, outcome)

    async def _unfinished(self) -> RunRow | None:
        return await self.place.database.read(runs_store.oldest_running)

    async def _start(self, row: RunRow) -> None:
        if not self._planned(row):
            await runs.fail(self.place, self.rules, row.run_id, FOLDER_GONE)
            self.news.set()
        elif runs.may_retry(self.place, self.rules, row):
            await self._launch(row)

    async def _launch(self, row: RunRow) -> None:
        folder = self.place.run(row.run_id)
        self.training = await process.start(
            row.run_id, folder, self.place.clock, self.niceness, self.launch
        )


def base_model(home: Path) -> Weights:
    """The verified weights that adapters are trained for."""
    try:
        return weights.llm(home)
    except WeightsFailed as error:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="base_model") from error
