"""E-mail address extraction, each checked by `email-validator` (by syntax, never by network)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email

MATCHES_MAX = 20
"""Most addresses looked at in one text."""

_LIKELY = re.compile(r"[^\s@<>()\[\]{},;:\"'|\\]{1,64}@[^\s@<>()\[\]{},;:\"'|\\!?]{1,253}")


@dataclass(frozen=True, slots=True)
class Address:
    """An e-mail address: its span in the text, and its normal form (the domain in lower case)."""

    start: int
    stop: int
    normal: str


def addresses(text: str) -> tuple[Address, ...]:
    """The e-mail addresses of a text, in their order. Pure and bounded."""
    matches: list[Address] = []
    if "@" not in text:
        return ()
    for count, match in enumerate(_LIKELY.finditer(text)):
        if count == MATCHES_MAX:
            break
        candidate = match.group().rstrip(".…。-")
        normal = _normalize(candidate)
        if normal is not None:
            matches.append(Address(match.start(), match.start() + len(candidate), normal))
    return tuple(matches)


def _normalize(candidate: str) -> str | None:
    try:
        # example.org and .test are as good as any here: nothing is sent
        return validate_email(
            candidate, check_deliverability=False, test_environment=True
        ).normalized
    except EmailNotValidError:
        return None
