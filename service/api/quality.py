"""How well it goes: rates with intervals and counts, and the model's own measures."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from learning.accuracy import accuracy
from learning.evaluation import measures, reliability
from service import quality, raters
from service.api.context import ERRORS, Engineer, Parts

router = APIRouter(tags=["quality"], responses=ERRORS)


@router.get("/quality")
async def rates(baton: Parts, principal: Engineer) -> Any:
    """False escalations, misses, automation, calibration; what is pending is shown, not counted."""
    workspace = principal.workspace
    standing = await baton.engine.served(workspace)
    scores = standing.window.scores()
    policy, routed = standing.policy, deepcopy(standing.routed)
    found = await baton.read(lambda connection: quality.quality(connection, workspace, policy))
    bins = reliability(scores.probability, scores.label, w=scores.weight)
    found["model"] = {
        "version": standing.version,
        "recipe": standing.recipe,
        "position": standing.position,
        "lessons": standing.window.lessons,
        "window": measures(scores.probability, scores.label, scores.weight),
        "reliability": {name: part.tolist() for name, part in asdict(bins).items()},
    }
    found["routing"] = await asyncio.to_thread(accuracy, routed) | {
        "confidence": policy.routing.confidence,
        "learned": standing.router.model.counts,
    }
    return JSONResponse(found)


@router.get("/quality/agents")
async def agents(baton: Parts, principal: Engineer) -> Any:
    """Whose labels can be trusted: agreement, drift and speed of each agent, suspicions first."""
    workspace = principal.workspace
    return JSONResponse(await baton.read(lambda connection: raters.shown(connection, workspace)))
