"""Phone numbers in a text, by Google's libphonenumber (`phonenumbers`).

A number with its country code is found anywhere. One written as at home is read by the countries
where the text's language is mostly spoken, and only if it looks like a phone number (parts set
apart) or the words before it say so: a bare run of digits is as likely an order number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from phonenumbers import PhoneNumberFormat, PhoneNumberMatcher, format_number

MATCHES_MAX = 20
"""Most numbers taken from one text."""

_TRIES_MAX = 500
_RUN = re.compile(r"\d(?:[^\w\s]?[\s().\-/]{0,3}\d){6}")
_CUE_CHARS = 32
_CUE = re.compile(
    r"(?i)\b(?:phone|tel(?:e(?:phone|fon|f[oó]no?))?|mobile?|handy|cell(?:phone)?|call|reach|"
    r"dial|sms|text|whatsapp|ruf|anrufen|nummer|num[eé]ro|celular|m[oó]vil|portable|appel|ligar)"
)
_HOMES = {
    "en": ("US", "GB"),
    "de": ("DE", "AT"),
    "fr": ("FR", "BE"),
    "es": ("ES", "MX"),
    "it": ("IT",),
    "nl": ("NL", "BE"),
    "pt": ("BR", "PT"),
    "pl": ("PL",),
    "ru": ("RU",),
    "tr": ("TR",),
    "ar": ("SA", "EG"),
    "hi": ("IN",),
    "ja": ("JP",),
    "ko": ("KR",),
    "zh": ("CN", "TW"),
}


@dataclass(frozen=True, slots=True)
class Phone:
    """A number as it stands in the text, and as it is dialled from anywhere (E.164)."""

    start: int
    stop: int
    dialled: str


def phones(text: str, language: str | None = None) -> tuple[Phone, ...]:
    """The phone numbers of a text in their order, none overlapping another. Pure and bounded."""
    if _RUN.search(text) is None:
        return ()
    found: dict[int, Phone] = {}
    for region in _regions(language):
        for phone in _matches(text, region):
            if all(phone.stop <= one.start or one.stop <= phone.start for one in found.values()):
                found[phone.start] = phone
    return tuple(found[start] for start in sorted(found))


def _regions(language: str | None) -> tuple[str | None, ...]:
    tongue, _, place = (language or "en").replace("_", "-").partition("-")
    if len(place) == 2 and place.isalpha():
        return (None, place.upper())
    return (None, *_HOMES.get(tongue.lower(), ()))


def _matches(text: str, region: str | None) -> Iterator[Phone]:
    matcher = PhoneNumberMatcher(text, region, max_tries=_TRIES_MAX)
    for count, match in enumerate(matcher):
        if count == MATCHES_MAX:
            break
        if region is None or _likely(text, match.start, match.raw_string):
            dialled = format_number(match.number, PhoneNumberFormat.E164)
            yield Phone(match.start, match.end, dialled)


def _likely(text: str, start: int, written: str) -> bool:
    apart = any(not sign.isdigit() for sign in written)
    return apart or _CUE.search(text, max(0, start - _CUE_CHARS), start) is not None
