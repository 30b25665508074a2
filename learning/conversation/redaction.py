"""Redaction of personal data (PII) in a message: what libraries recognise by its checksum is
replaced by its kind, such as `[card]`, before anything is stored or learned.

Card numbers pass the Luhn test, IBANs and national ids their own check digits (python-stdnum),
e-mail addresses and phone numbers are those that the brief finds. What no check confirms stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.de import idnr
from stdnum.es import dni
from stdnum.fr import nir
from stdnum.iso7064 import mod_97_10
from stdnum.it import codicefiscale
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.us import ssn

from learning.conversation.brief.emails import addresses
from learning.conversation.brief.phones import phones
from learning.conversation.state import Message

Kind = Literal["card", "iban", "email", "phone", "national_id"]
KINDS: tuple[Kind, ...] = ("card", "iban", "email", "national_id", "phone")
"""Every kind, the surest first: what one has taken, no other sees."""

ROUNDS_MAX = 8
"""Libraries give a bounded number of matches: they are asked again so often, and then every long
number that is left goes, too.
"""

_CARD = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])")
_IBAN = re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}(?!\w)")
_LONG_NUMBER = re.compile(r"\+?\d(?:[\s().\-/]{0,3}\d){6,}")
_CUE_CHARS = 40

_NATIONAL: tuple[tuple[re.Pattern[str], Callable[[str], bool], re.Pattern[str] | None], ...] = (
    (re.compile(r"(?<![\w-])\d{3}-\d\d-\d{4}(?![\w-])"), ssn.is_valid, None),
    (re.compile(r"(?<!\w)\d{8}[- ]?[A-Za-z](?!\w)"), dni.is_valid, None),
    (re.compile(r"(?<!\w)[12](?: ?\d){5}(?: ?[\dAB])(?: ?\d){8}(?!\w)"), nir.is_valid, None),
    (re.compile(r"(?<!\w)[A-Za-z]{6}[A-Za-z\d]{10}(?!\w)"), codicefiscale.is_valid, None),
    (re.compile(r"(?<!\w)\d{3}\.?\d{3}\.?\d{3}-?\d\d(?!\w)"), cpf.is_valid, None),
    (re.compile(r"(?<!\w)\d{11}(?!\w)"), pesel.is_valid, None),
    (re.compile(r"(?<!\w)\d\d ?\d{3} ?\d{3} ?\d{3}(?!\w)"), idnr.is_valid, None),
    (
        re.compile(r"(?<!\w)\d{4}\.?\d\d\.?\d{3}(?!\w)"),
        bsn.is_valid,
        re.compile(r"(?i)\b(?:bsn|burgerservicenummer|sofinummer)\b"),
    ),
)
"""National ids: how they look, their check, and the word before them where the check alone would
take one order number in eleven.
"""


def redact(text: str, kinds: Iterable[Kind], language: str | None = None) -> str:
    """The text with all data of these kinds replaced by its kind. Pure and idempotent."""
    wanted = frozenset(kinds)
    for kind in KINDS:
        if kind in wanted:
            text = _redact_kind(text, kind, language)
    return text


def _redact_kind(text: str, kind: Kind, language: str | None) -> str:
    for _ in range(ROUNDS_MAX):
        spans = list(_spans(text, kind, language))
        if not spans:
            return text
        for start, stop in reversed(spans):
            text = f"{text[:start]}[{kind}]{text[stop:]}"
        if kind not in {"email", "phone"}:
            return text
    left = re.compile(r"\S+@\S+") if kind == "email" else _LONG_NUMBER
    return left.sub(f"[{kind}]", text)


def _spans(text: str, kind: Kind, language: str | None) -> Iterator[tuple[int, int]]:
    if kind == "email":
        yield from ((address.start, address.stop) for address in addresses(text))
    elif kind == "phone":
        yield from ((phone.start, phone.stop) for phone in phones(text, language))
    elif kind == "card":
        for match in _CARD.finditer(text):
            if luhn.is_valid(re.sub(r"\D", "", match.group())):
                yield match.span()
    elif kind == "iban":
        yield from _ibans(text)
    else:
        yield from _national_ids(text)


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    """Spans of IBANs in their order. What looks like one may reach into the next: the search goes
    on behind each IBAN, or at the next sign where there was none.
    """
    place = 0
    while match := _IBAN.search(text, place):
        end = _iban_end(text, *match.span())
        if end is not None:
            yield match.start(), end
        place = end or match.start() + 1


def _iban_end(text: str, start: int, stop: int) -> int | None:
    """Where the longest beginning that is an IBAN ends: words may follow with no sign between."""
    for end in range(stop, start + 14, -1):
        compact = re.sub(r"[ -]", "", text[start:end])
        is_likely = text[end - 1].isalnum() and mod_97_10.is_valid(compact[4:] + compact[:4])
        if is_likely and iban.is_valid(compact):
            return end
    return None


def _national_ids(text: str) -> Iterator[tuple[int, int]]:
    """Spans of national ids in their order, none overlapping another."""
    spans = sorted(
        match.span()
        for pattern, is_valid, cue in _NATIONAL
        for match in pattern.finditer(text)
        if is_valid(match.group())
        and (cue is None or cue.search(text, max(0, match.start() - _CUE_CHARS), match.start()))
    )
    last = 0
    for start, stop in spans:
        if start >= last:
            yield start, stop
            last = stop


def redact_message(message: Message, kinds: Iterable[Kind]) -> Message:
    """The message with its text redacted."""
    return with_redacted_text(message, redact(message.text, kinds, message.language))


def is_same_text(stored_text: str, text: str, language: str | None = None) -> bool:
    """Whether two texts are one, where either was redacted and the policy has changed since."""
    if stored_text == text:
        return True
    if "[" not in stored_text + text:
        return False
    return redact(stored_text, KINDS, language) == redact(text, KINDS, language)


def with_redacted_text(message: Message, text: str) -> Message:
    """The message with its redacted text, and the kinds that were replaced in it."""
    if text == message.text:
        return message
    marks = [(kind, f"[{kind}]") for kind in KINDS]
    kinds = tuple(kind for kind, mark in marks if text.count(mark) > message.text.count(mark))
    return replace(message, text=text, redacted=kinds)


Kinds = Annotated[
    tuple[Kind, ...],
    Field(
        max_length=len(KINDS),
        description="Personal data that is replaced by its kind, such as [card], before a message "
        "is stored: card, iban, email, phone, national_id.",
    ),
]
