"""Phone number extraction, by Google's libphonenumber (`phonenumbers`).

A number with its country code is found anywhere. A national one is read by the countries where the
text's language is mostly spoken, and only if it looks like a phone number (parts set apart) or the
words before it say so: a bare run of digits is as likely an order number.
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
    """A phone number: its span in the text, and its E.164 form."""

    start: int
    stop: int
    e164: str


def phones(text: str, language: str | None = None) -> tuple[Phone, ...]:
    """The phone numbers of a text in their order, none overlapping another. Pure and bounded."""
    if _RUN.search(text) is None:
        return ()
    by_start: dict[int, Phone] = {}
    for region in _regions(language):
        for phone in _find_in_region(text, region):
            if all(
                phone.stop <= other.start or other.stop <= phone.start
                for other in by_start.values()
            ):
                by_start[phone.start] = phone
    return tuple(by_start[start] for start in sorted(by_start))


def _regions(language: str | None) -> tuple[str | None, ...]:
    tongue, _, place = (language or "en").replace("_", "-").partition("-")
    if len(place) == 2 and place.isalpha():
        return (None, place.upper())
    return (None, *_HOMES.get(tongue.lower(), ()))


def _find_in_region(text: str, region: str | None) -> Iterator[Phone]:
    matcher = PhoneNumberMatcher(text, region, max_tries=_TRIES_MAX)
    for count, match in enumerate(matcher):
        if count == MATCHES_MAX:
            break
        if region is None or _is_likely_phone(text, match.start, match.raw_string):
            e164 = format_number(match.number, PhoneNumberFormat.E164)
            yield Phone(match.start, match.end, e164)


def _is_likely_phone(text: str, start: int, written: str) -> bool:
    apart = any(not sign.isdigit() for sign in written)
    return apart or _CUE.search(text, max(0, start - _CUE_CHARS), start) is not None
