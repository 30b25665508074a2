"""Identifiers that sort by time, and canonical JSON that identifies a repeated request
(idempotency).
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any


def new_id(kind: str) -> str:
    """An id that sorts by time, such as `d18f0c2a7b3e4a5f60718`."""
    return f"{kind}{time.time_ns() // 1000:x}{secrets.token_hex(4)}"


def fingerprint(value: Any) -> str:
    """Canonical JSON (sorted keys, no spaces): equal for a repeated request, for idempotency
    checks.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
