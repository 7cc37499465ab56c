"""Personal data with a recognisable form never survives masking; ordinary text does."""

import itertools
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.security.personal_data import find, mask

MASKED = [
    ("write to a.b+c@ex-ample.co.uk, please", "write to [EMAIL], please"),
    ("<Jörg.Müller@bücher.example>", "<[EMAIL]>"),
    ("mailto:dora@harbour.example?subject=hi", "mailto:[EMAIL]?subject=hi"),
    (f"{'x' * 200}@example.com", "[EMAIL]"),
    ("DE89 3704 0044 0532 0130 00 BIC COBADEFF", "[IBAN] BIC COBADEFF"),
    ("iban gb82west12345698765432.", "iban [IBAN]."),
    ("FR14-2004-1010-0505-0001-3M02-606", "[IBAN]"),
    ("card 12 4111 1111 1111 1111 ok", "card 12 [CARD] ok"),
    ("378282246310005", "[CARD]"),
    ("3782 822463 10005", "[CARD]"),
    ("5555\u00a05555\u00a05555\u00a04444", "[CARD]"),
    ("ssn 123-45-6789", "ssn [SSN]"),
    ("Social Security: 123456789", "Social Security: [SSN]"),
    ("+44 7700 900123", "[PHONE]"),
    ("(+49) 171 1234567", "[PHONE]"),
    ("0049 171 1234567", "[PHONE]"),
    ("call (415) 555-2671 now", "call [PHONE] now"),
    ("415-555-2671 415-555-2672", "[PHONE] [PHONE]"),
    ("415.555.2671 x123", "[PHONE]"),
    ("the number +1 555-010-4477.", "the number [PHONE]."),
    ("Tel.: 5551234", "Tel.: [PHONE]"),
    ("0171 1234567 or 030/1234567", "[PHONE] or [PHONE]"),
    ("call 555-0142 or mail a@b.de", "call [PHONE] or mail [EMAIL]"),
]

KEPT = [
    "The Lanternfish stores 52 kilowatt hours after 3,700 cycles.",
    "The part number of the plug is KL-2208, drawing 4417-203-11.",
    "on 2024-11-22 10:00, on 22.11.2024 10 and at 01:40",
    "1 200 000 units, +1 000 000 users, EUR 1,200.50",
    "4111 1111 1111 1112 fails its checksum",
    "DE89 3704 0044 0532 0130 02 fails its checksum",
    "@handle and me@localhost",
    "000-12-3456 is no social security number",
    "10.0.0.1 stays, because manuals name machines",
    "",
]


@pytest.mark.parametrize(("text", "expected"), MASKED)
def test_masks(text: str, expected: str) -> None:
    assert mask(text).text == expected
    assert mask(text).count == expected.count("[")


@pytest.mark.parametrize("text", KEPT)
def test_keeps(text: str) -> None:
    masked = mask(text)
    assert (masked.text, masked.count) == (text, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from 10.0.0.1.", "from [IP]."),
        ("at fe80::1, ok", "at [IP], ok"),
        ("999.1.1.1", "999.1.1.1"),
    ],
)
def test_masks_ip_addresses_on_request(text: str, expected: str) -> None:
    assert mask(text, ip_addresses=True).text == expected


def luhn_digit(digits: str) -> str:
    total = sum(
        sum(divmod(int(d) * (2 if index % 2 == 0 else 1), 10))
        for index, d in enumerate(reversed(digits))
    )
    return str(-total % 10)


def iban(country: str, length: int, rng: random.Random) -> str:
    body = "".join(rng.choices("0123456789", k=length - 4))
    remainder = int("".join(str(int(c, 36)) for c in f"{body}{country}00")) % 97
    return f"{country}{98 - remainder:02d}{body}"


def canary(rng: random.Random) -> str:
    digits = "".join(rng.choices("0123456789", k=14))
    card = f"4{digits}{luhn_digit(f'4{digits}')}"
    account = iban(*rng.choice([("DE", 22), ("NL", 18), ("NO", 15), ("PT", 25)]), rng)
    name = "".join(rng.choices("abcdefgh", k=8))
    return rng.choice(
        [
            f"{name}.x@canary{rng.randrange(999)}.example",
            card,
            " ".join(card[i : i + 4] for i in range(0, 16, 4)),
            account,
            " ".join(account[i : i + 4] for i in range(0, len(account), 4)),
            f"{rng.randrange(100, 666)}-{rng.randrange(10, 99)}-{rng.randrange(1000, 9999)}",
            f"+49 17{rng.randrange(1, 9)} {rng.randrange(10**6, 10**7)}",
            f"({rng.randrange(201, 989)}) {rng.randrange(200, 999)}-{rng.randrange(1000, 9999)}",
        ]
    )


def test_no_planted_canary_survives() -> None:
    rng = random.Random(7)
    words = ["quay", "crew", ",", ".", ":", "(", ")", "-", "7", "42", "2024", "left"]
    for _ in range(1000):
        planted = canary(rng)
        before, after = (" ".join(rng.choices(words, k=6)) for _ in range(2))
        text = f"{before}\n{planted}; {after}"
        assert planted not in mask(text).text, "a canary survived"


@given(st.text(st.sampled_from("aZ09@.+- ()\n\u00a0é:/xDE"), max_size=300))
def test_only_the_found_spans_change(text: str) -> None:
    spans = find(text, ip_addresses=True)
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))
    rest = text
    for span in reversed(spans):
        rest = rest[: span.start] + span.placeholder + rest[span.end :]
    assert mask(text, ip_addresses=True).text == rest


HOSTILE = [
    "a",
    "a@",
    "@",
    "4",
    "1 ",
    "4444 ",
    "+1234567 ",
    "GB82 ",
    "a.",
    "tel ",
    "0171 123 ",
    "1-",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_time_is_linear_in_hostile_text(unit: str) -> None:
    def seconds(length: int) -> float:
        text = (unit * length)[:length]
        start = time.process_time()
        mask(text, ip_addresses=True)
        return time.process_time() - start

    short, long = (min(seconds(length) for _ in range(3)) for length in (1_000, 16_000))
    assert long < 16 * short * 4 + 0.05
