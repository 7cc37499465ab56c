"""Only a token that the mesh's key signed, for this audience and this time, names a caller."""

import base64
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tidemill.faults import Fault, Reason
from tidemill.security.keys import MeshKey
from tidemill.security.tokens import EVENT_AUDIENCE, RPC_AUDIENCE, Identity, Verifier


def claims_at(clock: Any, **changes: Any) -> dict[str, Any]:
    now = int(clock.now().timestamp())
    claims = {
        "iss": "tidemill.mesh",
        "aud": RPC_AUDIENCE,
        "sub": "someone",
        "tenant": "acme",
        "scope": "search answers:read",
        "iat": now,
        "exp": now + 600,
    }
    merged = claims | changes
    return {name: value for name, value in merged.items() if value is not None}


def signed(key: MeshKey, claims: dict[str, Any], kid: Any = None) -> str:
    headers = {"kid": key.key_id if kid is None else kid}
    return jwt.encode(claims, key.private, algorithm="EdDSA", headers=headers)


def refused(identity: Identity, token: str, audience: str = RPC_AUDIENCE) -> Reason:
    with pytest.raises(Fault) as caught:
        identity.verifier.verify(token, audience)
    return caught.value.reason


def test_a_minted_token_names_its_caller(identity: Identity) -> None:
    caller = identity.verifier.verify(identity.mint("acme", ["b", "a"]), RPC_AUDIENCE)
    assert (caller.tenant_id, caller.subject) == ("acme", "service:test")
    assert caller.scopes == {"a", "b"}
    assert caller.token not in repr(caller)


def test_no_token_is_missing_not_invalid(identity: Identity) -> None:
    assert refused(identity, "") is Reason.TOKEN_MISSING


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": EVENT_AUDIENCE},
        {"aud": None},
        {"iss": "someone.else"},
        {"iss": None},
        {"sub": None},
        {"sub": 7},
        {"tenant": None},
        {"tenant": ""},
        {"tenant": "Acme"},
        {"tenant": "acme/globex"},
        {"tenant": 'a" or tenant != "'},
        {"tenant": ["acme"]},
        {"tenant": "a" * 64},
        {"tenant": "mesh"},
        {"scope": ["search"]},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": float("inf")},
        {"exp": True},
        {"iat": None},
        {"iat": "yesterday"},
        {"nbf": 99_999_999_999},
    ],
    ids=str,
)
def test_claims_of_another_shape_are_refused(
    identity: Identity, key: MeshKey, clock: Any, changes: dict[str, Any]
) -> None:
    assert refused(identity, signed(key, claims_at(clock, **changes))) is Reason.TOKEN_INVALID


def test_a_token_lives_until_its_end_and_a_minute_of_leeway(identity: Identity, clock: Any) -> None:
    token = identity.mint("acme", [], lifetime=timedelta(seconds=100))
    clock.turn(159)
    identity.verifier.verify(token, RPC_AUDIENCE)
    clock.turn(2)
    assert refused(identity, token) is Reason.TOKEN_INVALID


def test_a_token_from_the_future_is_refused(identity: Identity, clock: Any) -> None:
    clock.turn(3600)
    token = identity.mint("acme", [])
    clock.turn(-3600)
    assert refused(identity, token) is Reason.TOKEN_INVALID


def test_an_event_is_judged_by_the_time_that_the_broker_stamped(
    identity: Identity, clock: Any
) -> None:
    token = identity.mint("acme", [], audience=EVENT_AUDIENCE)
    stamped = clock.now()
    clock.turn(30 * 24 * 3600)
    assert identity.verifier.verify(token, EVENT_AUDIENCE, at=stamped).tenant_id == "acme"
    assert refused(identity, token, EVENT_AUDIENCE) is Reason.TOKEN_INVALID


def test_another_keys_token_is_refused(identity: Identity, key: MeshKey, clock: Any) -> None:
    stranger = MeshKey(key.key_id, Ed25519PrivateKey.generate())
    assert refused(identity, signed(stranger, claims_at(clock))) is Reason.TOKEN_INVALID


@pytest.mark.parametrize("kid", ["", "unknown", "../mesh", "0" * 16])
def test_an_unknown_key_id_is_refused(
    identity: Identity, key: MeshKey, clock: Any, kid: str
) -> None:
    assert refused(identity, signed(key, claims_at(clock), kid)) is Reason.TOKEN_INVALID


def part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "eddsa", "ES256", None, 7])
def test_a_token_of_another_algorithm_is_refused(
    identity: Identity, key: MeshKey, clock: Any, algorithm: Any
) -> None:
    header = part({"alg": algorithm, "typ": "JWT", "kid": key.key_id})
    for signature in ("", signed(key, claims_at(clock)).rpartition(".")[2]):
        token = f"{header}.{part(claims_at(clock))}.{signature}"
        assert refused(identity, token) is Reason.TOKEN_INVALID


def test_the_public_key_is_no_shared_secret(identity: Identity, key: MeshKey, clock: Any) -> None:
    """The classic confusion: HS256 with the bytes of the public key."""
    forms = [
        key.public.public_bytes_raw(),
        key.public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    ]
    for secret in forms:
        for algorithm in ("HS256", "HS384", "HS512"):
            secret = secret.ljust(64, b"\0")
            headers = {"kid": key.key_id}
            token = jwt.encode(claims_at(clock), secret, algorithm=algorithm, headers=headers)
            assert refused(identity, token) is Reason.TOKEN_INVALID


def test_an_rsa_token_is_refused(identity: Identity, key: MeshKey, clock: Any) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    token = jwt.encode(claims_at(clock), private, algorithm="RS256", headers={"kid": key.key_id})
    assert refused(identity, token) is Reason.TOKEN_INVALID


def test_changing_any_character_of_the_signed_part_is_noticed(
    identity: Identity, key: MeshKey, clock: Any
) -> None:
    token = signed(key, claims_at(clock))
    signed_part = token.rpartition(".")[0]
    for place in range(0, len(signed_part), 7):
        changed = "A" if token[place] != "A" else "B"
        broken = token[:place] + changed + token[place + 1 :]
        assert refused(identity, broken) is Reason.TOKEN_INVALID


def test_an_endless_token_is_refused_before_it_is_parsed(
    identity: Identity, key: MeshKey, clock: Any
) -> None:
    token = signed(key, claims_at(clock, padding="x" * 10_000))
    assert refused(identity, token) is Reason.TOKEN_INVALID


@given(st.text(max_size=300))
def test_any_text_is_refused_with_a_fault(text: str) -> None:
    verifier = Verifier({}, clock=None)  # type: ignore[arg-type]
    with pytest.raises(Fault):
        verifier.verify(text, RPC_AUDIENCE)
