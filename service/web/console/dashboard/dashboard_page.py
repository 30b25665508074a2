"""Figures page: rates with intervals, costs, measures of the model and its versions, drawn."""

from __future__ import annotations

import asyncio
import time
from copy import deepcopy
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from learning.estimation.routing_accuracy import accuracy
from service.quality import dashboard_data
from service.runtime.errors import NotFound
from service.web.console.dashboard import dashboard_figures
from service.web.console.rendering import page
from service.web.console.signed_in_user import Lead, SessionUser
from service.web.console.static_files import YEAR_SECONDS
from service.web.request_context import AppDependency, AppState

router = APIRouter(prefix="/engineering")
Days = Annotated[int, Query(ge=1, le=30)]


@router.get("")
async def get_dashboard(
    request: Request, baton: AppDependency, visitor: Lead, days: Days = 1
) -> Any:
    """The last day, week or month in figures, and in tables where nothing can be drawn."""
    dashboard = await _load(baton, visitor, days)
    model_state = await baton.engine.model_state(visitor.workspace)
    routed = await asyncio.to_thread(accuracy, deepcopy(model_state.routed))
    return page(
        request,
        visitor,
        "engineering.html",
        today=dashboard,
        policy=model_state.policy,
        serving={
            "version": model_state.version,
            "recipe": model_state.recipe,
            "position": model_state.position,
        },
        routing=routed,
        spans=tuple(dashboard_data.SPANS),
        mlflow=_links(baton.settings.mlflow_url, visitor.workspace),
        plotly=dashboard_figures.script_name(),
    )


@router.get("/figures")
async def get_figures(baton: AppDependency, visitor: Lead, days: Days = 1) -> Response:
    """The same figures as the runs', for the page's script to draw."""
    dashboard = await _load(baton, visitor, days)
    evaluation = dashboard.evaluation
    report = None if evaluation is None else evaluation.report
    text = await asyncio.to_thread(
        dashboard_figures.dashboard_figures, dashboard_data.dashboard_json(dashboard), report
    )
    return Response(text, media_type="application/json", headers={"Cache-Control": "no-store"})


@router.get("/{name}.js")
async def get_script(name: str) -> Response:
    """plotly.js from this very service."""
    if f"{name}.js" != dashboard_figures.script_name():
        raise NotFound("no_file", f"there is no file {name!r}", hint="reload the page")
    headers = {
        "Content-Encoding": "gzip",
        "Cache-Control": f"public, max-age={YEAR_SECONDS}, immutable",
    }
    body = await asyncio.to_thread(dashboard_figures.script)
    return Response(body, media_type="text/javascript", headers=headers)


async def _load(baton: AppState, visitor: SessionUser, days: int) -> dashboard_data.Dashboard:
    workspace, now = visitor.workspace, time.time()
    span = max(span for span in dashboard_data.SPANS if span <= days)
    policy = (await baton.engine.model_state(workspace)).policy
    return await baton.read(
        lambda connection: dashboard_data.load_dashboard(connection, workspace, policy, span, now)
    )


def _links(url: str, workspace: str) -> dict[str, str]:
    """Where MLflow shows this workspace's model, its versions and runs."""
    base = url.rstrip("/")
    model = f"{base}/#/models/{quote(f'baton-{workspace}', safe='')}"
    return {"model": model, "version": f"{model}/versions/", "run": f"{base}/#/runs/"}
