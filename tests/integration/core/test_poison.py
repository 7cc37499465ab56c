"""Events that cannot be applied are parked with a reason while their neighbours flow."""

import json
from typing import Any

import jwt

from tests.integration.core.parts import effects, recording
from tidemill.security.keys import load_or_create_key
from tidemill.topics import DOCUMENTS_SUBMITTED

UNKNOWN_FIELD = b"\xfa\xff\x03\x01a"  # field 8191, one byte


def forged(settings: Any) -> str:
    """A token whose claims are right and whose algorithm is none."""
    claims = {"iss": "tidemill.mesh", "aud": "tidemill.events", "sub": "x", "tenant": "acme"}
    times = {"scope": "documents:write", "iat": 1, "exp": 9_999_999_999}
    kid = load_or_create_key(settings.home / "keys").key_id
    return jwt.encode(claims | times, "", algorithm="none", headers={"kid": kid})


# What is wrong: (changes of the headers, key, value, reason, field or detail).
POISON: dict[str, tuple[dict[str, Any], bytes | None, bytes | None, str]] = {
    "no token": ({"tidemill-token": b""}, b"acme/doc", b"", "TOKEN_MISSING"),
    "token of no algorithm": ({"tidemill-token": forged}, b"acme/doc", b"", "TOKEN_INVALID"),
    "token that is not text": ({"tidemill-token": b"\xff\xfe"}, b"acme/doc", b"", "TOKEN_INVALID"),
    "another tenant's key": ({}, b"globex/doc", b"", "TENANT_MISMATCH"),
    "no key": ({}, None, b"", "SCHEMA_INVALID"),
    "key without an aggregate": ({}, b"acme/", b"", "SCHEMA_INVALID"),
    "key that is not UTF-8": ({}, b"acme/\xff", b"", "SCHEMA_INVALID"),
    "tombstone": ({}, b"acme/doc", None, "SCHEMA_INVALID"),
    "broken protobuf": ({}, b"acme/doc", b"\x0a\xff", "SCHEMA_INVALID"),
    "unknown field": ({}, b"acme/doc", UNKNOWN_FIELD, "SCHEMA_INVALID"),
    "broken JSON": ({"content-type": b"application/json"}, b"acme/doc", b"{", "SCHEMA_INVALID"),
    "unknown JSON field": (
        {"content-type": b"application/json"}, b"acme/doc", b'{"nope": 1}', "SCHEMA_INVALID"
    ),
    "JSON that is not UTF-8": (
        {"content-type": b"application/json"}, b"acme/doc", b'{"\xff": 1}', "SCHEMA_INVALID"
    ),
    "unknown content type": ({"content-type": b"text/csv"}, b"acme/doc", b"", "SCHEMA_INVALID"),
    "another event's type": (
        {"ce_type": b"tidemill.alerts.raised.v1"}, b"acme/doc", b"", "SCHEMA_INVALID"
    ),
    "endless id": ({"ce_id": b"x" * 5000}, b"acme/doc", b"", "SCHEMA_INVALID"),
    "id with a line feed": ({"ce_id": b"a\nb"}, b"acme/doc", b"", "SCHEMA_INVALID"),
    "id that is not UTF-8": ({"ce_id": b"\xff"}, b"acme/doc", b"", "SCHEMA_INVALID"),
}  # fmt: skip


def origin_of(letter: Any) -> int:
    """Offset of the record that the letter was."""
    return int(dict(letter.headers)["tidemill-origin"].rpartition(b"/")[2])


async def test_each_kind_of_bad_event_is_parked_and_its_neighbours_are_applied(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    async with run_service("ingest", outside.settings, recording) as runtime:
        for number, (changes, key, value, _) in enumerate(POISON.values()):
            headers = outside.headers(DOCUMENTS_SUBMITTED, f"poison-{number}") | changes
            filled = {k: v(outside.settings) if callable(v) else v for k, v in headers.items()}
            await outside.send(DOCUMENTS_SUBMITTED.name, key, value, filled, partition=0)
        headers = outside.headers(DOCUMENTS_SUBMITTED, "good")
        await outside.send(DOCUMENTS_SUBMITTED.name, b"acme/doc", b"", headers, partition=0)

        async def good_applied() -> bool:
            return await effects(runtime) == ["good"]

        await eventually(good_applied)
    # Records of other keys may overtake one that takes long; the origin says which was which.
    letters = sorted(await outside.read(DOCUMENTS_SUBMITTED.dead_letter_name), key=origin_of)
    reasons = [dict(letter.headers)["tidemill-reason"].decode() for letter in letters]
    assert dict(zip(POISON, reasons, strict=True)) == {n: case[3] for n, case in POISON.items()}
    assert [x.value for x in letters] == [case[2] for case in POISON.values()]
    assert not any("tidemill-token" in dict(letter.headers) for letter in letters)


async def test_headers_that_are_not_utf8_do_not_keep_an_event_from_being_applied(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    """FastStream's own parser fails on them, after which the offset would be committed."""
    async with run_service("ingest", outside.settings, recording) as runtime:
        headers = outside.headers(DOCUMENTS_SUBMITTED, "one") | {"x-note": b"\xff\xfe"}
        await outside.send(DOCUMENTS_SUBMITTED.name, b"acme/doc", b"", headers)

        async def applied() -> bool:
            return await effects(runtime) == ["one"]

        await eventually(applied)


async def test_json_events_are_applied(outside: Any, run_service: Any, eventually: Any) -> None:
    async with run_service("ingest", outside.settings, recording) as runtime:
        body = json.dumps({"documentId": "doc", "mediaType": "text/plain"}).encode()
        headers = outside.headers(DOCUMENTS_SUBMITTED, "one")
        headers["content-type"] = "application/json; charset=utf-8"
        await outside.send(DOCUMENTS_SUBMITTED.name, b"acme/doc", body, headers)

        async def applied() -> bool:
            return await effects(runtime) == ["one"]

        await eventually(applied)
