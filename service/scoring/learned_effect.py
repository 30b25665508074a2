"""Effect of one outcome on the serving model: the probability before and after learning it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.scoring.engine import Engine

SETTLE_SECONDS = 1.0
"""How long to wait for a process that has yet to learn it from the ledger."""


RETRACTED = {
    "gone": "it was taken back, and what it had taught is gone from the model",
    "at_rebuild": "it was taken back; what it had taught leaves the model at the next rebuild",
}


async def wait_for_head(engine: Engine, workspace: str) -> bool:
    """Wait until this process serves all that the ledger holds now, a new switch included."""
    return await engine.wait_for_position(workspace, await engine.head(workspace), SETTLE_SECONDS)


async def learned_effect_json(engine: Engine, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The serving model's probability for the last message that an outcome teaches about, before
    and after learning it; both None, with a reason in `why`, where they are unknown.
    """
    workspace, position = outcome["workspace"], outcome["position"]
    await engine.model_state(workspace)
    await engine.wait_for_position(workspace, position, SETTLE_SECONDS)
    effect = await engine.learned_effect(workspace, position)
    return {
        "outcome_id": outcome["id"],
        "position": position,
        "message_id": effect and effect.message_id,
        "before": effect and effect.before,
        "after": effect and effect.after,
        "why": None if effect else await _why_not(engine, outcome),
    }


async def _why_not(engine: Engine, outcome: Mapping[str, Any]) -> str:
    if outcome["retracted_at"] is not None:
        return RETRACTED[outcome["effect"]]
    if outcome["verdict"] == "unknowable":
        return "it teaches nothing: it is counted apart"
    model_state = await engine.model_state(outcome["workspace"])
    if model_state.position < outcome["position"]:
        return "this process has yet to learn it"
    return "this process learned it long ago, or the version that serves leaves it out"
