"""Status of a handoff: the open ones, and the errors for one that is not there or is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.runtime.errors import Contradiction, NotFound
from service.store.conversations.batch import Batch
from service.store.handoffs import handoff_rows

OPEN = ("waiting", "claimed")


def require_handoff(batch: Batch, workspace: str, name: str) -> dict[str, Any]:
    row = handoff_rows.handoff(batch.connection, workspace, name)
    if row is None:
        raise NotFound("no_handoff", f"there is no handoff {name!r} in this workspace")
    handoff: dict[str, Any] = row._asdict()
    return handoff


def handoff_over(row: Mapping[str, Any]) -> Contradiction:
    return Contradiction(
        "handoff_over",
        f"handoff {row['id']!r} is already {row['status']}",
        hint="GET /v1/handoffs?status=waiting lists those that wait",
    )
