"""Quality routes: rates with intervals and counts, calibration, and annotator agreement."""

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
from learning.ledger.model_state import ModelState
from learning.measures.prequential import Scores
from learning.measures.scores import measures, reliability
from service.outcomes import annotator_review
from service.quality import quality_report
from service.web.api.quality_schemas import AnnotatorReport, QualityReport
from service.web.error_responses import ERRORS
from service.web.request_context import AppDependency, Lead
from service.web.schemas import moment, timed

router = APIRouter(tags=["quality"], responses=ERRORS)


@router.get("/quality", response_model=QualityReport)
async def get_quality(baton: AppDependency, principal: Lead) -> Any:
    """False escalations, misses, automation, calibration; what is pending is shown, not counted."""
    workspace = principal.workspace
    state = await baton.engine.model_state(workspace)
    scores = state.window.scores()
    policy, routed = state.policy, deepcopy(state.routed)
    model = {
        "version": state.version,
        "recipe": state.recipe,
        "position": state.position,
        "lessons": state.window.lessons,
    }
    advice = _advice(state)
    routing = {
        "confidence": policy.routing.confidence,
        "learned": state.router.model.counts,
    }

    def look(connection: Connection) -> dict[str, Any]:
        report = quality_report.quality(connection, workspace, policy)
        return {"counted_at": moment(time.time())} | _with_iso_times(report)

    report = await baton.reports.get(workspace, policy, lambda: baton.read(look))
    calibration = await asyncio.to_thread(_calibration, scores)
    routing |= await asyncio.to_thread(accuracy, routed)
    return JSONResponse(
        report | {"model": model | calibration, "routing": routing, "advice": advice}
    )


def _advice(state: ModelState) -> dict[str, Any]:
    """What each adviser is worth, and what it costs where the policy gives its price."""
    report: dict[str, Any] = {}
    for name, share in state.advisers.shares.items():
        price = state.policy.advisers.get(name)
        report[name] = {"share": share, "price": price} | state.advice_trials.worth(name)
    return report


def _with_iso_times(report: dict[str, Any]) -> dict[str, Any]:
    """A report whose times are ISO 8601: those of `over_time` and of `drift`."""
    over_time, drift = report["over_time"], report["drift"]
    points = [timed(point) for point in over_time["points"]]
    report = report | {"over_time": over_time | {"points": points}}
    if drift is not None:
        tested = drift["tested"] and drift["tested"] | {"until": moment(drift["tested"]["until"])}
        alarms = [timed(alarm) for alarm in drift["alarms"]]
        report["drift"] = drift | {"tested": tested, "alarms": alarms}
    return report


def _calibration(scores: Scores) -> dict[str, Any]:
    """How well the model's newest probabilities went with the truth."""
    bins = reliability(scores.probability, scores.label, w=scores.weight)
    return {
        "window": measures(scores.probability, scores.label, scores.weight),
        "reliability": {name: values.tolist() for name, values in asdict(bins).items()},
    }


@router.get("/quality/agents", response_model=AnnotatorReport)
async def get_annotator_quality(baton: AppDependency, principal: Lead) -> Any:
    """Whose labels can be trusted: agreement, drift and speed of each agent, suspicions first."""
    workspace = principal.workspace
    return JSONResponse(
        await baton.read(lambda connection: annotator_review.annotators_json(connection, workspace))
    )
