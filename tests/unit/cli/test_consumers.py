"""`tidemill status` names consumers that wait or stopped, from what the services' metrics say."""

from pathlib import Path

from prometheus_client import generate_latest

from tidemill.cli.consumers import ConsumerState, states_in
from tidemill.telemetry import open_telemetry
from tidemill.telemetry.catalogue import CONSUMER_LAG, CONSUMER_STOPPED, CONSUMER_WAITING

INDEX, CHUNKS, ANSWERS = "retriever/embedded", "embedder/chunked", "monitor/answers"


def test_what_the_metrics_of_a_service_say_of_its_consumers(tmp_path: Path) -> None:
    with open_telemetry("test", tmp_path, metrics_port=None) as telemetry:
        for name, lag in ((INDEX, 12), (CHUNKS, 0), (ANSWERS, 400)):
            telemetry.level(CONSUMER_LAG, lag, consumer=name)
        telemetry.level(CONSUMER_WAITING, 43.4, consumer=INDEX, dependency="milvus")
        # A dependency that is back.
        telemetry.level(CONSUMER_WAITING, 0, consumer=INDEX, dependency="database")
        telemetry.level(CONSUMER_WAITING, 0, consumer=CHUNKS, dependency="model_server")
        telemetry.level(CONSUMER_STOPPED, 1, consumer=ANSWERS)
        page = generate_latest(telemetry.registry).decode()
    found = {state.consumer: state for state in states_in(page)}
    assert found == {
        INDEX: ConsumerState(INDEX, 12, dependency="milvus", waiting_seconds=43.4),
        CHUNKS: ConsumerState(CHUNKS),
        ANSWERS: ConsumerState(ANSWERS, 400, stopped=True),
    }
    assert [name for name, state in found.items() if state.is_well] == [CHUNKS]
    assert found[INDEX].describe() == f"{INDEX} waits for milvus since 43 s, 12 events behind"
    assert "stopped by itself, 400 events behind" in found[ANSWERS].describe()
