"""What a test does to the running mesh: index, ask, change releases, read the log."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from aiokafka import AIOKafkaConsumer
from safetensors.numpy import save_file

from tidemill import topics
from tidemill.api.common.v1 import Chunk
from tidemill.api.events.v1 import AnswerGenerated, DocumentChunked, Release, ReleaseChanged
from tidemill.api.inference.v1 import GenerateRequest, GenerateResponse, InferenceServiceStub
from tidemill.api.retriever.v1 import GetIndexRequest, RetrieverServiceStub
from tidemill.artifacts import Artifact, ArtifactStore
from tidemill.faults import Fault
from tidemill.rpc import call, stream
from tidemill.runtime import Runtime
from tidemill.settings import MeshSettings
from tidemill.topics import Topic

T = TypeVar("T")
TENANT = "harbor"
SCOPES = ("answers:write", "feedback:write", "documents:read", "releases:evaluate")
WAIT_SECONDS = 60.0

DOCUMENTS = {
    "hr/annual-leave": (
        "Annual leave at Marrowick Tideworks",
        "Every full-time employee of Marrowick Tideworks receives 27 days of annual leave per "
        "calendar year. Public holidays in Port Sennick are not deducted from annual leave.",
    ),
    "products/kelpline": (
        "Kelpline plug",
        "The Kelpline is a plug that connects a turbine with the sea cable under water. The "
        "Kelpline housing is made of the titanium alloy Tirrenite. It carries up to 420 amperes.",
    ),
    "it/backup": (
        "Nightly backup",
        "The nightly backup starts at 01:40. Nightly backups are kept for 42 days. The backup "
        "server stands in the Veldmouth yard.",
    ),
}


@dataclass(frozen=True)
class Mesh:
    """The runtime of inference and the settings of all."""

    runtime: Runtime
    settings: MeshSettings

    def token(self, tenant: str = TENANT, *scopes: str) -> str:
        return self.runtime.identity.mint(tenant, scopes or SCOPES, subject="test")

    @property
    def stub(self) -> Any:
        return InferenceServiceStub(self.runtime.channels.to("inference"))

    async def ask(
        self, question: str, *, tenant: str = TENANT, timeout: float = 60, **fields: Any
    ) -> list[GenerateResponse]:
        request = GenerateRequest(question=question, **fields)
        token = self.token(tenant)
        calls = stream(self.stub.Generate, request, token=token, timeout=timeout)
        return [response async for response in calls]

    async def publish(self, topic: Topic[Any], aggregate: str, message: Any) -> None:
        await self.runtime.bus.write(TENANT, lambda unit: unit.publish(topic, aggregate, message))

    async def change_release(self, release: Release, state: Any, epoch: int, **more: Any) -> None:
        release.tenant_id = TENANT
        change = ReleaseChanged(release=release, state=state, epoch=epoch, **more)
        await self.publish(topics.RELEASES_CHANGED, "releases", change)

    async def log(self, topic: Topic[Any]) -> list[Any]:
        """Every message of a topic so far, with its headers' count unread."""
        consumer = AIOKafkaConsumer(
            topic.name,
            bootstrap_servers=self.settings.kafka_address,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            batches = await consumer.getmany(timeout_ms=1_000, max_records=1_000)
            records = [record for batch in batches.values() for record in batch]
            return [topic.message.FromString(record.value) for record in records]
        finally:
            await consumer.stop()

    async def recorded(self, answer_id: str) -> AnswerGenerated:
        """The answer's event, read from Kafka."""

        async def find() -> AnswerGenerated | None:
            events = await self.log(topics.ANSWERS_GENERATED)
            return next((event for event in events if event.answer_id == answer_id), None)

        return await eventually(find)


async def eventually(condition: Callable[[], Awaitable[T | None]]) -> T:
    """The condition's first true value, within WAIT_SECONDS."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if value := await condition():
                return value
            await asyncio.sleep(0.1)


async def index_documents(mesh: Mesh) -> None:
    """Publishes what ingest would, and waits until all of it can be found."""
    for document_id, (title, text) in DOCUMENTS.items():
        chunk = Chunk(
            chunk_id=f"{document_id}#1",
            document_id=document_id,
            version=1,
            headings=["Overview"],
            text=text,
        )
        event = DocumentChunked(
            tenant_id=TENANT, document_id=document_id, version=1, title=title, chunks=[chunk]
        )
        await mesh.publish(topics.DOCUMENTS_CHUNKED, document_id, event)
    index = RetrieverServiceStub(mesh.runtime.channels.to("retriever"))

    async def indexed() -> bool:
        try:
            found = await call(index.GetIndex, GetIndexRequest(), token=mesh.token(), timeout=5)
        except Fault:
            return False
        return bool(found.documents == len(DOCUMENTS))

    await eventually(indexed)


async def random_adapter(mesh: Mesh, folder: Path, name: str, seed: int) -> Artifact:
    """A LoRA adapter for the default model that changes its answers, in the artifact store."""
    draw = np.random.default_rng(seed)
    tensors = {}
    for layer in range(30):
        for part, rows in (("q_proj", 576), ("v_proj", 192)):
            key = f"base_model.model.model.layers.{layer}.self_attn.{part}"
            tensors[f"{key}.lora_A.weight"] = draw.normal(0, 0.2, (4, 576)).astype(np.float32)
            tensors[f"{key}.lora_B.weight"] = draw.normal(0, 0.2, (rows, 4)).astype(np.float32)
    source = folder / name
    source.mkdir()
    save_file(tensors, source / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"],
        "base_model_name_or_path": "smollm2-135m-instruct",
    }
    (source / "adapter_config.json").write_text(json.dumps(config))
    return await ArtifactStore(mesh.settings.artifacts_url).put_folder(source, f"adapters/{name}")
