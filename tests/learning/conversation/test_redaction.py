"""What a checksum or a library confirms to be personal data is replaced; everything else stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.conversation.redaction import KINDS, redact
from tests.service_in_process import OTHERS

GONE = (
    ("card", "my card is 4111 1111 1111 1111, exp 12/27", "my card is [card], exp 12/27"),
    ("card", "5500-0000-0000-0004", "[card]"),
    ("iban", "pay to DE89 3704 0044 0532 0130 00 please", "pay to [iban] please"),
    ("iban", "GB82WEST12345698765432", "[iban]"),
    (
        "iban",
        "from GB82WEST12345698765432 to DE89 3704 0044 0532 0130 00",
        "from [iban] to [iban]",
    ),
    ("email", "write to ana.b@shop.example.org or x@y.org.", "write to [email] or [email]."),
    ("phone", "call +49 30 901820 now", "call [phone] now"),
    ("national_id", "my ssn: 536-90-4399", "my ssn: [national_id]"),
    ("national_id", "12345678Z", "[national_id]"),
    ("national_id", "RSSMRA85T10A562S", "[national_id]"),
    ("national_id", "mijn bsn is 111222333", "mijn bsn is [national_id]"),
)
STAYS = (
    "order 4111111111111112 is late",
    "DE88370400440532013000 has a wrong check digit",
    "order number 111222333 never came",
    "it cost 1,299.00 on 2026-11-28, twice",
    "me @ home",
)


@pytest.mark.parametrize("kind, text, left", GONE)
def test_each_kind_is_replaced_by_its_name_and_only_where_it_is_asked_for(
    kind: str, text: str, left: str
) -> None:
    assert redact(text, [kind], "en") == left  # type: ignore[list-item]
    assert redact(text, [], "en") == text
    if kind != "national_id":  # the digits of an id may well look like a phone's
        assert redact(text, [other for other in KINDS if other == "national_id"], "en") == text


@pytest.mark.parametrize("text", [*STAYS, *OTHERS])
def test_what_no_check_confirms_stays_as_it_is(text: str) -> None:
    assert redact(text, KINDS, "en") == text


def test_however_many_there_are_none_is_left() -> None:
    for one in ("ana@shop.example.org ", "+49 30 901820, ", "4111 1111 1111 1111; "):
        text = redact(one * 300, KINDS, "de")
        assert not any(sign.isdigit() or sign == "@" for sign in text)


@given(st.lists(st.sampled_from([text for _, text, _ in GONE] + list(STAYS)), max_size=6))
def test_a_redacted_text_is_left_alone(parts: list[str]) -> None:
    once = redact(" and ".join(parts), KINDS, "en")
    assert redact(once, KINDS, "en") == once
