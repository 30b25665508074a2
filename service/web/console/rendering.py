"""Template rendering (Jinja2): shared context, navigation, and filters for times and shares."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service.web.access.keys import ROLES
from service.web.console import static_files
from service.web.console.signed_in_user import SessionUser
from service.web.schemas import moment as iso

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class NavItem:
    """Navigation item: a page, and the least role that sees it there."""

    path: str
    name: str
    role: str = "agent"
    key: str = ""


NAVIGATION = (
    NavItem("/console/queue", "Queue", key="q"),
    NavItem("/console/audits", "Audits"),
    NavItem("/console/missed", "Missed"),
    NavItem("/console/today", "Today", "lead"),
    NavItem("/console/engineering", "Figures", "engineer"),
    NavItem("/console/people", "People", "admin"),
    NavItem("/console/start", "First day", "admin"),
)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = static_files.address
    environment.filters |= {
        "waited": format_wait,
        "moment": moment,
        "clock": clock,
        "percent": percent,
    }
    environment.filters |= {"share": format_share, "lasted": format_duration, "iso": iso}
    return environment


def render(template: str, **context: Any) -> str:
    """A template as text, everything in it escaped."""
    return _templates().get_template(template).render(**context)


def page(
    request: Request,
    visitor: SessionUser | None,
    template: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> HTMLResponse:
    """Render a whole page, for a signed-in user or for nobody (`visitor` None)."""
    items = [item for item in NAVIGATION if visitor is not None and visitor.may(item.role)]
    shared = {
        "visitor": visitor,
        "places": items,
        "path": request.url.path,
        "now": time.time(),
        "status": status,
    }
    text = render(template, **shared | context)
    return HTMLResponse(text, status, {"Cache-Control": "no-store"} | dict(headers or {}))


def moment(at: float) -> str:
    """Seconds since the epoch as `<time datetime>` takes them."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def clock(at: float) -> str:
    """A moment for people; the page's script shows it in their own time zone."""
    return datetime.fromtimestamp(at, UTC).strftime("%a %H:%M UTC")


def format_wait(seconds: float) -> str:
    """A waiting time, in the largest unit that says enough."""
    minutes = int(max(0.0, seconds) // 60)
    if minutes < 1:
        return "< 1 min"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min" if minutes < 600 else f"{minutes // 60} h"
    return f"{minutes // 1440} days"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def format_share(share: float) -> str:
    """A rate in percent; a small one with a digit more."""
    return f"{100 * share:.1f} %" if 0 < share < 0.1 else percent(share)


def format_duration(seconds: float) -> str:
    """A duration; a short one in seconds."""
    return f"{seconds:.0f} s" if seconds < 90 else format_wait(seconds)


__all__ = [
    "NAVIGATION",
    "ROLES",
    "NavItem",
    "clock",
    "format_wait",
    "moment",
    "page",
    "percent",
    "render",
]
