"""Signatures of requests: HMAC of the raw body, compared in constant time, and their age."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from service.connections.kinds.contract import NotUnderstoodError, NotVerifiedError

EARLIEST_SECONDS, LATEST_SECONDS = 30.0, 300.0
"""How far ahead of our clock a signature may be, and how old."""


def require_recent(timestamp: str, now: float, latest: float = LATEST_SECONDS) -> None:
    """Raises NotVerifiedError."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise NotVerifiedError("there is no timestamp in seconds")
    age = now - int(timestamp)
    if not -EARLIEST_SECONDS <= age <= latest:
        raise NotVerifiedError("the timestamp is too old, or ahead of this clock")


def require_signature(
    given: str, signed: bytes, secrets: Sequence[str], algorithm: str = "sha256"
) -> None:
    """The hex HMAC of what is signed by one of the secrets. Raises NotVerifiedError."""
    digests = (hmac.new(one.encode(), signed, algorithm).hexdigest() for one in secrets)
    require_equal(given.lower(), digests)


def require_equal(given: str, wanted: Iterable[str]) -> None:
    """Compare in constant time. Raises NotVerifiedError."""
    sent = given.encode("utf-8", "replace")
    if not sent or not any(hmac.compare_digest(sent, one.encode()) for one in wanted):
        raise NotVerifiedError("the signature or secret is wrong")


def json_object(raw: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises NotUnderstoodError."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise NotUnderstoodError("the body is no JSON") from error
    if not isinstance(body, dict):
        raise NotUnderstoodError("the body is no JSON object")
    return body


def hashed_key(*parts: Any) -> str:
    """A key of bounded length for the parts by which a repeat is known."""
    text = json.dumps(parts, sort_keys=True, default=str, separators=(",", ":"))
    return text if len(text) <= 120 else hashlib.sha256(text.encode()).hexdigest()


def seconds(given: Any) -> float | None:
    """A time in seconds since the epoch: given so, in milliseconds, or in ISO 8601."""
    if isinstance(given, bool) or given is None:
        return None
    if isinstance(given, int | float):
        value = float(given) / (1000.0 if given > 1e11 else 1.0)
    elif isinstance(given, str) and given.replace(".", "", 1).isdigit() and given.isascii():
        return seconds(float(given))
    elif isinstance(given, str):
        try:
            value = datetime.fromisoformat(given.strip().replace(" UTC", "+00:00")).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    else:
        return None
    return value if math.isfinite(value) and 3.2e7 < value < 3.25e10 else None


def header(headers: Mapping[str, str], name: str) -> str:
    """A header by its name in lower case."""
    return headers.get(name, "")
