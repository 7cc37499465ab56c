"""Is each process ready? Asked with a real request, not with a port that is open."""

import asyncio
from collections.abc import Awaitable, Callable

from aiokafka.admin import AIOKafkaAdminClient
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tidemill.api.embedder.v1 import EmbedderServiceStub, EmbedRequest
from tidemill.api.evaluator.v1 import EvaluatorServiceStub, ListReleasesRequest
from tidemill.api.inference.v1 import GetAnswerRequest, InferenceServiceStub
from tidemill.api.ingest.v1 import IngestServiceStub, ListDocumentsRequest
from tidemill.api.monitor.v1 import GetUsageRequest, MonitorServiceStub
from tidemill.api.retriever.v1 import GetIndexRequest, RetrieverServiceStub
from tidemill.api.trainer.v1 import ListRunsRequest, TrainerServiceStub
from tidemill.cli.processes import BROKER, TRITON
from tidemill.cli.scopes import ALL_SCOPES
from tidemill.faults import Fault, Reason
from tidemill.rpc import Channels, call
from tidemill.security.tokens import Identity
from tidemill.settings import MeshSettings
from tidemill.topics import CATALOGUE

PROBE_SECONDS = 5.0
PROBE_TENANT = "tidemill-probe"
Probe = Callable[[], Awaitable[object]]


class Probes:
    """One probe a process; each raises until its process answers a real request."""

    def __init__(self, settings: MeshSettings, identity: Identity, channels: Channels) -> None:
        self._settings = settings
        self._identity = identity
        self._channels = channels

    async def is_ready(self, name: str) -> bool:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._probe(name)
        except Exception:
            # Whatever went wrong, the process is not ready; the caller asks again.
            return False
        return True

    async def _probe(self, name: str) -> None:
        if name == BROKER:
            await self._probe_broker()
        elif name == TRITON:
            await self._probe_triton()
        else:
            await self._probe_service(name)

    async def _probe_broker(self) -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=self._settings.kafka_address)
        try:
            await client.start()
            missing = {topic.name for topic in CATALOGUE} - set(await client.list_topics())
        finally:
            await client.close()
        if missing:
            raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="topics")

    async def _probe_triton(self) -> None:
        # Here, because it brings NumPy and Triton's client, which no other command needs.
        from tidemill.modelserver.client import ModelServer

        async with ModelServer(self._settings.triton_address) as server:
            # The language model loads last.
            if not await server.ready("llm", timeout=PROBE_SECONDS):
                raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="llm")
            await server.embed(["ready?"], timeout=PROBE_SECONDS)

    async def _probe_service(self, name: str) -> None:
        channel = self._channels.to(name)
        token = self._identity.mint(PROBE_TENANT, ALL_SCOPES)

        async def ask(method: Callable[..., object], request: object) -> None:
            await call(method, request, token=token, timeout=PROBE_SECONDS)  # type: ignore[arg-type]

        # A service that answers may still lack something, such as the adapter of a live release.
        check = HealthStub(channel).Check  # type: ignore[attr-defined]
        health = await call(check, HealthCheckRequest(), token=token, timeout=PROBE_SECONDS)
        if health.status != HealthCheckResponse.SERVING:
            raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency=name)
        if name == "ingest":
            await ask(IngestServiceStub(channel).ListDocuments, ListDocumentsRequest())
        elif name == "embedder":
            await ask(EmbedderServiceStub(channel).Embed, EmbedRequest(texts=["ready?"]))
        elif name == "retriever":
            await ask(RetrieverServiceStub(channel).GetIndex, GetIndexRequest())
        elif name == "inference":
            await self._probe_inference(token)
        elif name == "trainer":
            await ask(TrainerServiceStub(channel).ListRuns, ListRunsRequest())
        elif name == "evaluator":
            await ask(EvaluatorServiceStub(channel).ListReleases, ListReleasesRequest())
        else:
            await ask(MonitorServiceStub(channel).GetUsage, GetUsageRequest())

    async def _probe_inference(self, token: str) -> None:
        """Looks up an answer that does not exist: the refusal proves that rows answer."""
        stub = InferenceServiceStub(self._channels.to("inference"))
        request = GetAnswerRequest(answer_id="ans_probe")
        try:
            await call(stub.GetAnswer, request, token=token, timeout=PROBE_SECONDS)
        except Fault as fault:
            if fault.reason is not Reason.ANSWER_NOT_FOUND:
                raise
