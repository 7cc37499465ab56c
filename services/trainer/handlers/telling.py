"""Training runs as events."""

from collections.abc import Sequence
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from services.trainer.adapters.run_folder import Result
from services.trainer.adapters.store import RunRow
from tidemill.api.events import v1 as events
from tidemill.artifacts import Artifact


def trained(row: RunRow, result: Result, artifact: Artifact) -> events.AdapterTrained:
    return events.AdapterTrained(
        tenant_id=row.tenant_id,
        adapter=row.adapter,
        base_model=row.base_version,
        artifact_uri=artifact.uri,
        artifact_hash=artifact.hash,
        dataset=dataset_of(row),
        run_id=row.run_id,
        metrics=result.metrics,
        trained_time=timestamp(row.end_time or row.create_time),
    )


def run_changed(
    row: RunRow, lessons: Sequence[tuple[str, str]] = (), taken: Sequence[str] = ()
) -> events.RunChanged:
    """The run as its row stands. lessons: (feedback id, answer id) pairs; taken: feedback ids."""
    return events.RunChanged(
        tenant_id=row.tenant_id,
        run_id=row.run_id,
        number=row.number,
        adapter=row.adapter,
        state=events.RunState.Value(f"RUN_STATE_{row.state.upper()}"),
        reason=row.reason,
        dataset=dataset_of(row),
        base_model=row.base_version,
        examples=[events.TrainedExample(feedback_id=f, answer_id=a) for f, a in lessons],
        taken_feedback_ids=taken,
        steps=row.steps_done,
        planned_steps=row.steps_planned,
        loss=row.loss,
        failures=row.failures,
        create_time=timestamp(row.create_time),
        end_time=timestamp(row.end_time) if row.end_time else None,
    )


def dataset_of(row: RunRow) -> events.DatasetSnapshot:
    return events.DatasetSnapshot(
        dataset_id=row.dataset_id,
        content_hash=row.dataset_hash,
        supervised_examples=row.supervised_examples,
        preference_pairs=row.preference_pairs,
    )


def timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
