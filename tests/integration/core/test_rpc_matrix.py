"""Every RPC of every service against every fault of a token, on a real server.

The cases come from the descriptors: a new RPC is tested without a line here.
"""

import asyncio
import importlib
import pkgutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf import message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc

import tidemill.api
from tests.integration.core.parts import recording
from tidemill.clock import SystemClock
from tidemill.faults import Fault, Reason, StartRefused
from tidemill.rpc import RpcServer, call, current_caller, open_server, stream
from tidemill.rpc.access import access_of
from tidemill.rpc.client import MAX_BYTES
from tidemill.rpc.server import check_access_rules
from tidemill.runtime import running
from tidemill.security.keys import MeshKey, load_or_create_key
from tidemill.security.tokens import EVENT_AUDIENCE, Identity
from tidemill.telemetry import open_telemetry


@dataclass(frozen=True)
class Rpc:
    """One method of the contracts."""

    service: Any
    method: Any

    @property
    def path(self) -> str:
        return f"/{self.service.full_name}/{self.method.name}"

    def request(self) -> Any:
        return message_factory.GetMessageClass(self.method.input_type)()

    def response(self) -> Any:
        return message_factory.GetMessageClass(self.method.output_type)


def service_modules() -> list[Any]:
    found = pkgutil.walk_packages(tidemill.api.__path__, "tidemill.api.")
    names = [module.name for module in found if module.name.endswith("_service_pb2_grpc")]
    return [importlib.import_module(name) for name in sorted(names)]


def descriptor_of(module: Any) -> Any:
    plain = importlib.import_module(module.__name__.removesuffix("_grpc"))
    return next(iter(plain.DESCRIPTOR.services_by_name.values()))


RPCS = [
    Rpc(descriptor_of(module), method)
    for module in service_modules()
    for method in descriptor_of(module).methods
]


def servicer_of(module: Any, callers: list[tuple[str, str]]) -> Any:
    """A servicer that writes down who it was told the caller is."""
    service = descriptor_of(module)

    def unary(rpc: Rpc) -> Any:
        async def serve(self: Any, request: Any, context: Any) -> Any:
            callers.append((rpc.path, current_caller().tenant_id))
            return rpc.response()()

        return serve

    def streaming(rpc: Rpc) -> Any:
        async def serve(self: Any, request: Any, context: Any) -> AsyncIterator[Any]:
            callers.append((rpc.path, current_caller().tenant_id))
            yield rpc.response()()

        return serve

    rpcs = [Rpc(service, method) for method in service.methods]
    methods = {
        rpc.method.name: streaming(rpc) if rpc.method.server_streaming else unary(rpc)
        for rpc in rpcs
    }
    return type("Servicer", (getattr(module, f"{service.name}Servicer"),), methods)()


@dataclass(frozen=True)
class Served:
    """An open server and what its servicers were told."""

    channel: Any
    identity: Identity
    callers: list[tuple[str, str]]
    server: RpcServer

    async def ask(self, rpc: Rpc, token: str, request: Any = None) -> Any:
        serialize, parse = type(rpc.request()).SerializeToString, rpc.response().FromString
        if rpc.method.server_streaming:
            method = self.channel.unary_stream(rpc.path, serialize, parse)
            answers = stream(method, request or rpc.request(), token=token, timeout=5)
            return [answer async for answer in answers]
        method = self.channel.unary_unary(rpc.path, serialize, parse)
        return await call(method, request or rpc.request(), token=token, timeout=5)

    async def refusal(self, rpc: Rpc, token: str, request: Any = None) -> Reason:
        with pytest.raises(Fault) as caught:
            await self.ask(rpc, token, request)
        return caught.value.reason


@asynccontextmanager
async def serving(tmp_path: Path, settings: Any) -> AsyncIterator[Served]:
    identity = Identity(load_or_create_key(tmp_path / "keys"), "test", SystemClock())
    callers: list[tuple[str, str]] = []
    with open_telemetry("test", tmp_path, metrics_port=None) as telemetry:
        clock = SystemClock()
        async with open_server(settings, 0, identity.verifier, telemetry, clock) as server:
            for module in service_modules():
                name = f"add_{descriptor_of(module).name}Servicer_to_server"
                getattr(module, name)(servicer_of(module, callers), server.grpc)
            await server.start([descriptor_of(module).full_name for module in service_modules()])
            options = [("grpc.max_send_message_length", MAX_BYTES)]
            address = f"127.0.0.1:{server.port}"
            async with grpc.aio.insecure_channel(address, options=options) as channel:
                yield Served(channel, identity, callers, server)


@pytest.fixture
async def served(tmp_path: Path, mesh_settings: Any) -> AsyncIterator[Served]:
    async with serving(tmp_path, mesh_settings(tmp_path)) as opened:
        yield opened


def faulty_tokens(identity: Identity, scope: str) -> dict[str, tuple[str, Reason]]:
    good = identity.mint("acme", [scope])
    claims = jwt.decode(good, options={"verify_signature": False})
    kid = jwt.get_unverified_header(good)["kid"]
    stranger = Identity(MeshKey(kid, Ed25519PrivateKey.generate()), "x", SystemClock())
    past = timedelta(minutes=-30)
    return {
        "none": ("", Reason.TOKEN_MISSING),
        "rubbish": ("a.b.c", Reason.TOKEN_INVALID),
        "no algorithm": (
            jwt.encode(claims, "", algorithm="none", headers={"kid": kid}),
            Reason.TOKEN_INVALID,
        ),
        "expired": (identity.mint("acme", [scope], lifetime=past), Reason.TOKEN_INVALID),
        "another audience": (
            identity.mint("acme", [scope], audience=EVENT_AUDIENCE),
            Reason.TOKEN_INVALID,
        ),
        "another key": (stranger.mint("acme", [scope]), Reason.TOKEN_INVALID),
        "a broken tenant": (identity.mint("acme/globex", [scope]), Reason.TOKEN_INVALID),
        "no scope": (identity.mint("acme", []), Reason.SCOPE_MISSING),
        "another scope": (identity.mint("acme", [f"{scope}x"]), Reason.SCOPE_MISSING),
    }


def test_every_rpc_declares_who_may_call_it_how_much_and_how_long() -> None:
    assert len(RPCS) >= 20
    check_access_rules([descriptor_of(module).full_name for module in service_modules()])


async def test_every_rpc_refuses_every_faulty_token(served: Served) -> None:
    wrong = []
    for rpc in RPCS:
        rule = access_of(rpc.path)
        assert rule is not None
        for fault, (token, reason) in faulty_tokens(served.identity, rule.scope).items():
            if await served.refusal(rpc, token) is not reason:
                wrong.append((rpc.path, fault))
    assert wrong == []
    assert served.callers == []


async def test_every_rpc_takes_its_tenant_from_the_token_alone(served: Served) -> None:
    for rpc in RPCS:
        rule = access_of(rpc.path)
        assert rule is not None
        for tenant in ("acme", "globex"):
            await served.ask(rpc, served.identity.mint(tenant, [rule.scope]))
    expected = [(rpc.path, tenant) for rpc in RPCS for tenant in ("acme", "globex")]
    assert served.callers == expected


async def test_every_rpc_refuses_a_request_above_its_size(served: Served) -> None:
    for rpc in RPCS:
        rule = access_of(rpc.path)
        assert rule is not None
        body = b"\xfa\xff\x03" + varint(rule.max_request_bytes + 1) + bytes(rule.max_request_bytes)
        body += b"\0"
        if len(body) < MAX_BYTES:
            token = served.identity.mint("acme", [rule.scope])
            request = type(rpc.request()).FromString(body)
            assert await served.refusal(rpc, token, request) is Reason.REQUEST_TOO_LARGE
    assert served.callers == []


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


async def test_a_request_that_is_no_message_is_refused_with_a_reason(served: Served) -> None:
    for rpc in RPCS:
        rule = access_of(rpc.path)
        assert rule is not None
        token = served.identity.mint("acme", [rule.scope])
        kind = served.channel.unary_stream if rpc.method.server_streaming else None
        if kind is None:
            method = served.channel.unary_unary(rpc.path, None, None)
            with pytest.raises(Fault) as caught:
                await call(method, b"\xff\xff\xff", token=token, timeout=5)  # type: ignore[arg-type]
            assert caught.value.reason is Reason.SCHEMA_INVALID


async def test_health_needs_no_token_and_serves_nothing_before_it_is_told_to(
    served: Served,
) -> None:
    stub = health_pb2_grpc.HealthStub(served.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_health_knows_each_service_by_its_full_name(served: Served) -> None:
    """As client-side health checking and load balancers ask."""
    stub = health_pb2_grpc.HealthStub(served.channel)
    names = {"", *(descriptor_of(module).full_name for module in service_modules())}

    async def told() -> set[int]:
        asked = [health_pb2.HealthCheckRequest(service=name) for name in names]
        return {(await stub.Check(each, timeout=5)).status for each in asked}

    assert len(names) == 8
    assert await told() == {health_pb2.HealthCheckResponse.NOT_SERVING}
    await served.server.set_serving(True)
    assert await told() == {health_pb2.HealthCheckResponse.SERVING}
    await served.server.set_serving(False)
    assert await told() == {health_pb2.HealthCheckResponse.NOT_SERVING}


async def test_an_rpc_outside_the_contracts_is_unknown(served: Served) -> None:
    method = served.channel.unary_unary("/tidemill.api.x.v1.XService/Get")
    with pytest.raises(Fault) as caught:
        await call(method, b"", token="x", timeout=5)  # type: ignore[arg-type]
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"host": "0.0.0.0"}, "PLAINTEXT_REFUSED"),
        ({"host": "::"}, "PLAINTEXT_REFUSED"),
        ({"host": "example.org"}, "PLAINTEXT_REFUSED"),
        ({"host": "0.0.0.0", "tls_certificate": "a", "tls_key": "b"}, "DEVELOPMENT_REFUSED"),
        ({"dev": False}, "KEY_MISSING"),
    ],
    ids=str,
)
async def test_unsafe_settings_keep_a_service_from_starting(
    tmp_path: Path, mesh_settings: Any, overrides: dict[str, Any], reason: str
) -> None:
    with pytest.raises(StartRefused) as caught:
        async with running("ingest", mesh_settings(tmp_path, **overrides), recording):
            await asyncio.sleep(0)
    assert caught.value.reason == reason
