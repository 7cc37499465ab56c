"""JSON Web Tokens: the only source of a caller's tenant and scopes."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tidemill.clock import Clock
from tidemill.faults import Fault, Reason
from tidemill.names import TENANT_PATTERN as TENANT_PATTERN
from tidemill.security.keys import MeshKey

RPC_AUDIENCE = "tidemill.rpc"
EVENT_AUDIENCE = "tidemill.events"
MESH_ISSUER = "tidemill.mesh"
ALGORITHM = "EdDSA"
# Events about the mesh itself carry this name; no token may, so nobody else can speak for it.
MESH_TENANT = "mesh"
LEEWAY = timedelta(seconds=60)
MAX_TOKEN_CHARS = 8192


@dataclass(frozen=True)
class Caller:
    """Who called, as the verified token says. The token itself is kept to be forwarded."""

    tenant_id: str
    subject: str
    scopes: frozenset[str]
    token: str = field(repr=False)

    def require(self, scope: str) -> None:
        if scope not in self.scopes:
            raise Fault(Reason.SCOPE_MISSING, scope=scope)


def service_subject(service: str) -> str:
    """Subject of the tokens that a service of the mesh mints for itself."""
    return f"service:{service}"


class Verifier:
    """Checks signature, issuer, audience, time and shape of a token."""

    def __init__(
        self,
        keys: Mapping[str, Ed25519PublicKey],
        clock: Clock,
        until: Mapping[str, datetime] | None = None,
    ) -> None:
        """until: the last moment of keys that the mesh has left behind, by their ids."""
        self._keys = dict(keys)
        self._until = {key: time.timestamp() for key, time in (until or {}).items()}
        self._clock = clock

    def verify(self, token: str, audience: str, *, at: datetime | None = None) -> Caller:
        """The caller that a token names.

        at: the time at which the token must have been valid; now when not given. Events are
        judged by the time that the broker stamped, so that a late consumer still reads them.
        """
        if not token:
            raise Fault(Reason.TOKEN_MISSING)
        key_id, claims = self._claims(token, audience)
        moment = (at or self._clock.now()).timestamp()
        if moment > self._until.get(key_id, math.inf):
            raise Fault(Reason.TOKEN_INVALID, detail="the key was replaced")
        if moment > seconds(claims, "exp") + LEEWAY.total_seconds():
            raise Fault(Reason.TOKEN_INVALID, detail="expired")
        begins = max(seconds(claims, "iat"), seconds(claims, "nbf") if "nbf" in claims else 0.0)
        if moment < begins - LEEWAY.total_seconds():
            raise Fault(Reason.TOKEN_INVALID, detail="issued in the future")
        return caller_of(claims, token)

    def _claims(self, token: str, audience: str) -> tuple[str, dict[str, Any]]:
        """The key that signed a token, a known one, and the claims; times are judged by the
        caller."""
        if len(token) > MAX_TOKEN_CHARS:
            raise Fault(Reason.TOKEN_INVALID, detail="length")
        try:
            key_id = jwt.get_unverified_header(token).get("kid", "")
            return key_id, jwt.decode(
                token,
                self._keys[key_id],
                algorithms=[ALGORITHM],
                audience=audience,
                issuer=MESH_ISSUER,
                options={
                    "require": ["exp", "iat", "sub", "tenant"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, RecursionError) as error:
            raise Fault(Reason.TOKEN_INVALID) from error


def seconds(claims: Mapping[str, Any], name: str) -> float:
    """A claim as a time; infinity and text are no times, and a boolean is not 1."""
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Fault(Reason.TOKEN_INVALID, detail=name)
    return float(value)


def caller_of(claims: Mapping[str, Any], token: str) -> Caller:
    tenant, subject, scope = claims["tenant"], claims["sub"], claims.get("scope", "")
    if not isinstance(tenant, str) or not TENANT_PATTERN.fullmatch(tenant):
        raise Fault(Reason.TOKEN_INVALID, detail="tenant")
    if tenant == MESH_TENANT:
        raise Fault(Reason.TOKEN_INVALID, detail="tenant")
    if not isinstance(scope, str) or not isinstance(subject, str):
        raise Fault(Reason.TOKEN_INVALID, detail="claims")
    return Caller(tenant, subject, frozenset(scope.split()), token)


class Identity:
    """A process's right to mint short-lived tokens, and its verifier of everyone's."""

    def __init__(self, key: MeshKey, subject: str, clock: Clock) -> None:
        self._key = key
        self._subject = subject
        self._clock = clock
        others = [each for each in key.trusted if each.key_id != key.key_id]
        known = {each.key_id: each.public for each in others} | {key.key_id: key.public}
        until = {each.key_id: each.until for each in others if each.until is not None}
        self.verifier = Verifier(known, clock, until)

    def mint(
        self,
        tenant_id: str,
        scopes: Iterable[str],
        *,
        audience: str = RPC_AUDIENCE,
        lifetime: timedelta = timedelta(minutes=10),
        subject: str | None = None,
    ) -> str:
        """A token for one tenant; it is valid for one audience only."""
        now = self._clock.now()
        claims = {
            "iss": MESH_ISSUER,
            "sub": subject or self._subject,
            "aud": audience,
            "tenant": tenant_id,
            "scope": " ".join(sorted(scopes)),
            "iat": int(now.timestamp()),
            "exp": int((now + lifetime).timestamp()),
        }
        return jwt.encode(
            claims, self._key.private, algorithm=ALGORITHM, headers={"kid": self._key.key_id}
        )

    def keyed_hash_secret(self) -> bytes:
        """Secret for pseudonyms, derived from the mesh's first key; never logged."""
        return self._key.pseudonyms or pseudonym_secret(self._key)


def pseudonym_secret(key: MeshKey) -> bytes:
    return key.private.sign(b"tidemill pseudonym secret v1")[:32]
