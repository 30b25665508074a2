"""How well it goes: rates with intervals and counts, and the model's own measures."""

from __future__ import annotations

import asyncio
import time
from copy import deepcopy
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy import Connection

from learning.estimation.routing_accuracy import accuracy
from learning.measures.prequential import Scores
from learning.measures.scores import measures, reliability
from service.outcomes import annotator_review
from service.quality import quality_report
from service.web.request_context import ERRORS, AppDependency, Engineer
from service.web.schemas import moment

router = APIRouter(tags=["quality"], responses=ERRORS)


@router.get("/quality")
async def rates(baton: AppDependency, principal: Engineer) -> Any:
    """False escalations, misses, automation, calibration; what is pending is shown, not counted."""
    workspace = principal.workspace
    standing = await baton.engine.model_state(workspace)
    scores = standing.window.scores()
    policy, routed = standing.policy, deepcopy(standing.routed)
    model = {
        "version": standing.version,
        "recipe": standing.recipe,
        "position": standing.position,
        "lessons": standing.window.lessons,
    }
    routing = {
        "confidence": policy.routing.confidence,
        "learned": standing.router.model.counts,
    }

    def look(connection: Connection) -> dict[str, Any]:
        counted_at = moment(time.time())
        return {"counted_at": counted_at} | quality_report.quality(connection, workspace, policy)

    found = await baton.counts.get(workspace, policy, lambda: baton.read(look))
    judged = await asyncio.to_thread(_judged, scores)
    routed_well = await asyncio.to_thread(accuracy, routed)
    return JSONResponse(found | {"model": model | judged, "routing": routed_well | routing})


def _judged(scores: Scores) -> dict[str, Any]:
    """How well the model's newest probabilities went with the truth."""
    bins = reliability(scores.probability, scores.label, w=scores.weight)
    return {
        "window": measures(scores.probability, scores.label, scores.weight),
        "reliability": {name: part.tolist() for name, part in asdict(bins).items()},
    }


@router.get("/quality/agents")
async def agents(baton: AppDependency, principal: Engineer) -> Any:
    """Whose labels can be trusted: agreement, drift and speed of each agent, suspicions first."""
    workspace = principal.workspace
    return JSONResponse(
        await baton.read(lambda connection: annotator_review.annotators_json(connection, workspace))
    )
