"""One attempt at a delivery: the signed request, and what its answer means.

Only a 2xx is success; redirects are not followed; 410 ends the webhook. Nothing of the answer's
body is read.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import httpx
from standardwebhooks import Webhook as Signer

from service.connections.http.addresses import AddressPolicy
from service.connections.http.http_request import send
from service.runtime.sealing import Sealer
from service.store.ledger import outbox_rows

TIMEOUT_SECONDS = 20.0
BODY_BYTES_MAX = 20_000
MINUTE, HOUR = 60.0, 3600.0
RETRY_SECONDS = (
    5.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR,
)  # fmt: skip
"""How long after each failed attempt the next follows; after the last there is none."""

JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of an attempt: done, to be tried again, or gone (never to be tried again)."""

    result: Literal["done", "retry", "gone"]
    http_status: int | None = None
    error: str | None = None
    retry_after: float = 0.0


def body_of(event: Any, sealer: Sealer, *, with_text: bool) -> bytes:
    """The body, always the same for an event; a text that makes it too large is left out."""
    data = outbox_rows.event_data(event, sealer, with_text=with_text)
    timestamp = data.pop("at")
    body = _encode(event.type, timestamp, data)
    if len(body) > BODY_BYTES_MAX and "text" in data:
        body = _encode(event.type, timestamp, data | {"text": None, "text_left_out": True})
    return body


def _encode(kind: str, timestamp: str, data: dict[str, Any]) -> bytes:
    event = {"type": kind, "timestamp": timestamp, "data": data}
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def headers_of(event_id: str, body: bytes, secrets: list[str], now: datetime) -> dict[str, str]:
    """The headers of an attempt, signed by each of the secrets."""
    signatures = [Signer(secret).sign(event_id, now, body.decode()) for secret in secrets]
    return {
        "content-type": "application/json",
        "user-agent": "Baton-Webhooks",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


async def attempt(
    client: httpx.AsyncClient, url: str, headers: dict[str, str], body: bytes, policy: AddressPolicy
) -> Attempt:
    """Send it once, within TIMEOUT_SECONDS whatever the far side does."""
    answer = await send(client, "POST", url, headers, body, policy, TIMEOUT_SECONDS)
    if answer.status is None:
        return Attempt("retry", error=answer.error)
    status = answer.status
    if answer.is_success:
        return Attempt("done", status)
    if status == 410:
        return Attempt("gone", status, "it answered 410: nothing is sent to it any more")
    wait = min(answer.retry_after, RETRY_SECONDS[-1])
    return Attempt("retry", status, f"it answered {status}", wait)


def next_due(attempts: int, failed: Attempt, now: float, chance: random.Random) -> float | None:
    """When to try again after so many attempts; None: never."""
    if attempts > len(RETRY_SECONDS):
        return None
    pause = RETRY_SECONDS[attempts - 1] * (1 + JITTER * (2 * chance.random() - 1))
    return now + max(pause, failed.retry_after)


def now_utc() -> datetime:
    return datetime.now(UTC)
