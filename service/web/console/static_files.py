"""Static files of the console (scripts, styles, images), addressed by content and cached."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as PathParameter
from fastapi.responses import Response

from service.runtime.errors import NotFound

STATIC = Path(__file__).parent / "static"
YEAR_SECONDS = 31_536_000

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Asset:
    """Static file as it is sent; its digest is part of its address."""

    body: bytes
    media_type: str
    digest: str


@cache
def _assets() -> dict[str, Asset]:
    return {path.name: _asset(path) for path in sorted(STATIC.iterdir()) if path.is_file()}


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Asset(body, media_type, hashlib.sha256(body).hexdigest()[:16])


@router.get("/icon/{count}.svg")
async def icon(count: Annotated[int, PathParameter(ge=1, le=100)]) -> Response:
    """The tab's icon with a number of those waiting; from 100 on it says 99+."""
    text = "99+" if count > 99 else str(count)
    body = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        '<circle cx="16" cy="16" r="16" fill="#a3262a"/>'
        f'<text x="16" y="22" font-family="sans-serif" font-weight="700" text-anchor="middle" '
        f'font-size="{(18, 17, 14)[len(text) - 1]}" fill="#fff">{text}</text></svg>'
    )
    headers = {"Cache-Control": f"public, max-age={YEAR_SECONDS}, immutable"}
    return Response(body, media_type="image/svg+xml", headers=headers)


def address(name: str) -> str:
    """Where a page finds a file; another content has another address."""
    return f"/console/static/{_assets()[name].digest}/{name}"


@router.get("/static/{digest}/{name}")
async def asset(digest: str, name: str) -> Response:
    """A file; not cached where the digest is another release's."""
    file = _assets().get(name)
    if file is None:
        raise NotFound("no_file", f"there is no file {name!r}")
    is_current = digest == file.digest
    cached = f"public, max-age={YEAR_SECONDS}, immutable" if is_current else "no-store"
    headers = {"Cache-Control": cached, "ETag": f'"{file.digest}"'}
    return Response(file.body, media_type=file.media_type, headers=headers)
