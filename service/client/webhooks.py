"""Verification of webhooks by the Standard Webhooks scheme (HMAC-SHA256, replay window)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .errors import BatonError

TOLERANCE_SECONDS = 300


class NotVerifiedError(BatonError):
    """The request was not signed by this secret, not lately, or is no event: answer it with 400."""


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """An event; `id` is the same whenever it is delivered again, so handle each id once."""

    id: str
    type: str
    timestamp: datetime
    data: dict[str, Any]


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    now: float | None = None,
) -> WebhookEvent:
    """The event of a request, from its raw body. Give both secrets while you change from one to the
    other. Raises NotVerifiedError.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        name, sent_at = lower["webhook-id"], lower["webhook-timestamp"]
        signatures = lower["webhook-signature"].split()
        age = (time.time() if now is None else now) - int(sent_at)
    except (KeyError, ValueError) as error:
        raise NotVerifiedError("the headers of a webhook are missing or malformed") from error
    if abs(age) > TOLERANCE_SECONDS:
        raise NotVerifiedError(f"it was signed {age:.0f} seconds ago, or the clocks differ")
    signed = f"{name}.{sent_at}.".encode() + body
    secrets = [secret] if isinstance(secret, str) else secret
    expected = [_signature(one, signed) for one in secrets]
    if not any(hmac.compare_digest(a.encode(), b.encode()) for a in expected for b in signatures):
        raise NotVerifiedError("the signature is not by this secret")
    try:
        event = json.loads(body)
        at = datetime.fromisoformat(event["timestamp"])
        return WebhookEvent(name, str(event["type"]), at, dict(event["data"]))
    except (ValueError, KeyError, TypeError) as error:
        raise NotVerifiedError("the body is no event") from error


def _signature(secret: str, signed: bytes) -> str:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError as error:
        raise ValueError("a webhook's secret is whsec_ and base64") from error
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
