"""Puts the parts of answering together from the runtime's and the settings' values."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.inference.adapters.adapter_shelf import AdapterShelf
from services.inference.adapters.language_model import LanguageModel, open_language_model
from services.inference.adapters.release_book import ReleaseBook
from services.inference.adapters.retrieval import Retrieval
from services.inference.domain.pricing import Price
from services.inference.handlers.admission import Admission
from services.inference.handlers.answering import Answering, Limits
from services.inference.handlers.observing import Observer
from services.inference.handlers.recording import Recorder
from services.inference.settings import InferenceSettings
from tidemill.artifacts import ArtifactStore
from tidemill.modelserver.layout import locate
from tidemill.runtime import Runtime


@asynccontextmanager
async def open_answering(runtime: Runtime, settings: InferenceSettings) -> AsyncIterator[Answering]:
    """Connects to the model server; closes once every answer under way is recorded."""
    address, repository = runtime.settings.triton_address, repository_of(runtime, settings)
    async with open_language_model(address, repository) as model:
        parts = answering(runtime, settings, model)
        try:
            yield parts
        finally:
            await parts.recorder.close()


def repository_of(runtime: Runtime, settings: InferenceSettings) -> Path | None:
    """Where adapters are added: the setting, or the repository of the model server at home."""
    at_home = None if runtime.settings.triton else locate(runtime.settings.home).repository
    return settings.model_repository or at_home


def answering(runtime: Runtime, settings: InferenceSettings, model: LanguageModel) -> Answering:
    """The parts, with nothing of them started."""
    clock, mesh, channels = runtime.clock, runtime.settings, runtime.channels
    folder = mesh.home / runtime.service / "adapters"
    store = ArtifactStore(mesh.artifacts_url)
    return Answering(
        clock=clock,
        database=runtime.database,
        releases=ReleaseBook(runtime.database, clock),
        retrieval=Retrieval(channels.to("embedder"), channels.to("retriever"), settings.top_k),
        model=model,
        shelf=AdapterShelf(store, folder, model.load_adapter, clock),
        admission=Admission(settings.concurrent, settings.waiting, settings.wait_seconds),
        recorder=Recorder(runtime.bus, clock, Observer(runtime.telemetry.meter, model.name)),
        secret=runtime.identity.keyed_hash_secret(),
        limits=limits_of(settings),
    )


def limits_of(settings: InferenceSettings) -> Limits:
    return Limits(
        relevance_threshold=settings.relevance_threshold,
        retrieval_seconds=settings.retrieval_seconds,
        first_token_seconds=settings.first_token_seconds,
        answer_seconds=settings.answer_seconds,
        price=Price(settings.input_price_micros, settings.output_price_micros),
    )
