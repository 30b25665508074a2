"""Template rendering (Jinja2): shared context, navigation, the language and its filters."""

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
from service.web.console.language import (
    choice,
    formats,
    names,
    reason_text,
    sentences,
    translations,
)
from service.web.console.language.names import N_
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
    NavItem("/console/queue", N_("Queue"), key="q"),
    NavItem("/console/audits", N_("Audits")),
    NavItem("/console/missed", N_("Missed")),
    NavItem("/console/today", N_("Today"), "lead"),
    NavItem("/console/engineering", N_("Figures"), "engineer"),
    NavItem("/console/people", N_("People"), "admin"),
    NavItem("/console/start", N_("First day"), "admin"),
)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_callables(  # type: ignore[attr-defined]
        translations.gettext,
        translations.ngettext,
        newstyle=True,
        pgettext=translations.pgettext,
        npgettext=translations.npgettext,
    )
    environment.globals |= {
        "static": static_files.address,
        "language": translations.current,
        "languages": translations.languages,
        "language_script": choice.script_address,
    }
    environment.filters |= {
        "waited": formats.format_wait,
        "lasted": formats.format_duration,
        "clock": formats.clock,
        "percent": formats.percent,
        "share": formats.format_share,
        "decimal": formats.decimal,
        "plain": formats.plain,
        "moment": moment,
        "iso": iso,
        "named": names.named,
        "marked": sentences.marked,
        "worded": sentences.worded,
        "capitalized": sentences.capitalized,
        "capital": sentences.capital,
        "reason": reason_text.reason_text,
    }
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
        "here": _here(request),
        "now": time.time(),
        "status": status,
    }
    text = render(template, **shared | context)
    return HTMLResponse(text, status, {"Cache-Control": "no-store"} | dict(headers or {}))


def _here(request: Request) -> str:
    """The address of the page that is shown, to come back to."""
    if request.method != "GET":
        return choice.HOME
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def moment(at: float) -> str:
    """Seconds since the epoch as `<time datetime>` takes them."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


__all__ = [
    "NAVIGATION",
    "ROLES",
    "NavItem",
    "moment",
    "page",
    "render",
]
