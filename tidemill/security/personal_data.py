"""Replaces personal data that has a recognisable form with placeholders, in linear time."""

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import phonenumbers


@dataclass(frozen=True)
class Masked:
    """Text with placeholders such as "[EMAIL]", and how many were put in."""

    text: str
    count: int


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` (exclusive) hold one piece of personal data."""

    start: int
    end: int
    placeholder: str


def mask(text: str, *, ip_addresses: bool = False) -> Masked:
    """Masks e-mail addresses, IBANs, payment cards, US social security and phone numbers.

    Checksums decide where they exist. Names and postal addresses are left alone.
    """
    spans = find(text, ip_addresses=ip_addresses)
    parts: list[str] = []
    position = 0
    for span in spans:
        parts += [text[position : span.start], span.placeholder]
        position = span.end
    return Masked("".join([*parts, text[position:]]), len(spans))


def find(text: str, *, ip_addresses: bool = False) -> list[Span]:
    """Spans in order of position; where detectors overlap, the more certain one wins."""
    detectors: list[Callable[[str], Iterator[Span]]] = [_emails, _ibans]
    if _HAS_DIGIT.search(text):
        detectors += [_cards, _social_security_numbers, _american_phones, _phones]
    if ip_addresses:
        detectors.append(_ip_addresses)
    found: list[Span] = []
    for detector in detectors:
        found = _merge(found, list(detector(text)))
    return found


def _merge(kept: list[Span], more: list[Span]) -> list[Span]:
    """Adds the spans of `more` that touch none of `kept`; both are sorted, so is the result."""
    if not kept or not more:
        return kept or more
    merged: list[Span] = []
    index = 0
    for span in more:
        while index < len(kept) and kept[index].end <= span.start:
            merged.append(kept[index])
            index += 1
        if index == len(kept) or kept[index].start >= span.end:
            merged.append(span)
    return merged + kept[index:]


_HAS_DIGIT = re.compile(r"\d")

# --- e-mail: found from the "@" outwards, so that a long word costs one look, not one a letter

_LOCAL_END = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]")
_DOMAIN = re.compile(r"@(?:[^\W_](?:[\w-]{0,62})\.){1,8}[^\W\d_]{2,24}(?![\w-])")


def _emails(text: str) -> Iterator[Span]:
    floor = 0
    at = text.find("@")
    while at >= 0:
        start = at
        while start > floor and _LOCAL_END.match(text, start - 1):
            start -= 1
        while start < at and text[start] in ".'*/=`{|":
            start += 1
        domain = _DOMAIN.match(text, at)
        floor = at + 1
        if start < at and domain:
            floor = domain.end()
            yield Span(start, floor, "[EMAIL]")
        at = text.find("@", floor)


# --- IBAN: the country fixes the length, then ISO 7064 mod 97-10 decides

_IBAN_REGISTRY = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 "
    "DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 "
    "GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 "
    "LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 "
    "PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 "
    "SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30 "
)
_IBAN_LENGTHS = {c: int(n) for c, n in re.findall(r"([A-Z]{2})(\d{2})", _IBAN_REGISTRY)}
_SEPARATOR = r"[ \u00a0\u2009\u202f.\-\u2010-\u2013]"
_IBAN_START = re.compile(r"(?<![^\W_])[A-Za-z]{2}\d{2}")
_SEPARATORS = " \u00a0\u2009\u202f.-\u2010\u2011\u2012\u2013"
_WITHOUT_SEPARATORS = str.maketrans("", "", _SEPARATORS)


def _ibans(text: str) -> Iterator[Span]:
    position = 0
    while start := _IBAN_START.search(text, position):
        position = start.start() + 2
        end = _iban_end(text, start.start())
        if end:
            position = end
            yield Span(start.start(), end, "[IBAN]")


def _iban_end(text: str, start: int) -> int | None:
    length = _IBAN_LENGTHS.get(text[start : start + 2].upper(), 0)
    window = text[start : start + 2 * length]
    compact = window.translate(_WITHOUT_SEPARATORS)[:length].upper()
    if len(compact) < length or not _mod_97_holds(compact):
        return None
    end, left = start, length
    while left:
        left -= text[end] not in _SEPARATORS
        end += 1
    return end if end == len(text) or not text[end].isalnum() else None


def _mod_97_holds(compact: str) -> bool:
    if not (compact.isascii() and compact.isalnum()):
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


# --- payment cards: 13 to 19 digits in at most five groups, an issuer's first digit, Luhn

_DIGIT_RUN = re.compile(rf"(?<!\d)\d++(?:{_SEPARATOR}\d++)*+")
_DIGITS = re.compile(r"\d+")


def _cards(text: str) -> Iterator[Span]:
    for run in _DIGIT_RUN.finditer(text):
        if run.end() - run.start() >= 13:
            yield from _cards_in(list(_DIGITS.finditer(text, run.start(), run.end())))


def _cards_in(groups: list[re.Match[str]]) -> Iterator[Span]:
    first = 0
    while first < len(groups):
        used = _card_groups(groups[first : first + 5])
        if used:
            yield Span(groups[first].start(), groups[first + used - 1].end(), "[CARD]")
        first += used or 1


def _card_groups(groups: list[re.Match[str]]) -> int:
    """How many of the first groups make up a card number, longest first; 0 for none."""
    for used in range(len(groups), 0, -1):
        if groups[used - 1].end() - groups[0].start() < 13:
            return 0
        digits = "".join(group.group() for group in groups[:used])
        if 13 <= len(digits) <= 19 and digits[0] in "23456" and _luhn_holds(digits):
            return used
    return 0


def _luhn_holds(digits: str) -> bool:
    doubled = [2 * int(d) for d in digits[-2::-2]]
    return (sum(map(int, digits[::-2])) + sum(d - 9 * (d > 9) for d in doubled)) % 10 == 0


# --- US social security number: no checksum, so its form or its name must be there

_SSN = re.compile(r"(?<![\d-])(\d{3})([- ])(\d{2})\2(\d{4})(?![\d-])")
_SSN_BARE = re.compile(r"(?<![\d-])(\d{3})()(\d{2})(\d{4})(?![\d-])")
_SSN_CUE = re.compile(r"(?:ssn|social security)[^\d]{0,20}$", re.IGNORECASE)


def _social_security_numbers(text: str) -> Iterator[Span]:
    formed = [m for m in _SSN.finditer(text) if _ssn_possible(m)]
    bare = [
        m
        for m in _SSN_BARE.finditer(text)
        if _ssn_possible(m) and _SSN_CUE.search(text[max(0, m.start() - 36) : m.start()])
    ]
    for match in sorted(formed + bare, key=lambda m: m.start()):
        yield Span(match.start(), match.end(), "[SSN]")


def _ssn_possible(match: re.Match[str]) -> bool:
    area, _, group, serial = match.groups()
    return area not in ("000", "666") and group != "00" and serial != "0000"


# --- phone numbers: international ones by their length, national ones by form or by a cue

_EXTENSION = r"(?: {0,2}(?:x|ext\.?|#) {0,2}\d{1,6}(?!\d))?"
_PHONE = re.compile(
    rf"(?<![\w+])(?:\+|\(\+|\()?\d(?:(?:{_SEPARATOR}|[()/]){{0,2}}\d){{6,17}}(?!\d)"
    rf"{_EXTENSION}"
)
_PHONE_CUE = re.compile(
    r"\b(?:tel|telephone|telefon|phone|mobile|cell|handy|fax|call|calls|dial|ring|sms|text|whatsapp|"
    r"contact|hotline|reach)\b[^\d\n]{0,24}$",
    re.IGNORECASE,
)
_AMERICAN = re.compile(
    rf"(?<![\w+-])(?:\+?1[ .-])?(?:\(\d{{3}}\) ?|\d{{3}}[-.])\d{{3}}[-.]\d{{4}}(?!\d){_EXTENSION}"
)
_TRUNK_ZERO = re.compile(rf"\(?0[1-9]\d{{0,4}}\)?(?:{_SEPARATOR}|/)")
_DATE = re.compile(r"\d{4}[-.]\d{2}[-.]\d{2}|\d{1,2}[-.]\d{1,2}[-.]\d{4}")


def _american_phones(text: str) -> Iterator[Span]:
    for match in _AMERICAN.finditer(text):
        yield Span(match.start(), match.end(), "[PHONE]")


def _phones(text: str) -> Iterator[Span]:
    for match in _PHONE.finditer(text):
        number = match.group()
        if _DATE.match(number) is None and _is_phone(
            number, text[max(0, match.start() - 48) : match.start()]
        ):
            yield Span(match.start(), match.end(), "[PHONE]")


def _is_phone(number: str, before: str) -> bool:
    bare = number.lstrip("(")
    if bare.startswith(("+", "00")):
        return _possible("+" + bare.removeprefix("00").removeprefix("+"))
    digits = sum(character.isdigit() for character in number)
    if _TRUNK_ZERO.match(number) and 9 <= digits <= 12:
        return True
    return 7 <= digits <= 15 and _PHONE_CUE.search(before) is not None


def _possible(number: str) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return False


# --- IP addresses: only on request, because manuals are full of legitimate ones

_IP = re.compile(r"(?<![\w:.])[0-9A-Fa-f:.]{3,45}(?![\w:])")


def _ip_addresses(text: str) -> Iterator[Span]:
    for match in _IP.finditer(text):
        candidate = (
            match.group().rstrip(".:") if not match.group().endswith("::") else match.group()
        )
        try:
            ipaddress.ip_address(candidate)
        except ValueError:
            continue
        yield Span(match.start(), match.start() + len(candidate), "[IP]")
