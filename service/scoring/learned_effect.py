"""What an outcome changed, as the process that answers saw it when it learned it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.scoring.engine import Engine

SETTLE_SECONDS = 1.0
"""How long to wait for a process that has yet to learn it from the ledger."""


async def learned_effect_json(engine: Engine, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What the serving model gave the last message that an outcome teaches about, just before and
    just after it learned this outcome; or, with no figures, why they cannot be told.
    """
    workspace, position = outcome["workspace"], outcome["position"]
    await engine.served(workspace)
    await engine.settled(workspace, position, SETTLE_SECONDS)
    found = await engine.effect(workspace, position)
    return {
        "outcome_id": outcome["id"],
        "position": position,
        "message_id": found and found.message_id,
        "before": found and found.before,
        "after": found and found.after,
        "why": None if found else await _why_not(engine, outcome),
    }


async def _why_not(engine: Engine, outcome: Mapping[str, Any]) -> str:
    if outcome["retracted_at"] is not None:
        return "it was taken back; what it had taught leaves the model at the next rebuild"
    if outcome["verdict"] == "unknowable":
        return "it teaches nothing: it is counted apart"
    standing = await engine.served(outcome["workspace"])
    if standing.position < outcome["position"]:
        return "this process has yet to learn it"
    return "this process learned it long ago, or the version that serves leaves it out"
