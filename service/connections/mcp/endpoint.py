"""ASGI endpoint of MCP over streamable HTTP, stateless; loaded with its first request.

Whoever never speaks MCP never pays for it. Its tools call the API in this very process, by the key
that the request carries, so every limit and role holds as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from service.client import AsyncBaton

PATH = "/mcp"


class McpEndpoint:
    """Hands requests to the MCP server, which runs from the first one until `stop`."""

    def __init__(self, api: ASGIApp) -> None:
        self._api = api
        self._ready: asyncio.Future[Any] | None = None
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._run(self._ready))
        manager = await asyncio.shield(self._ready)
        await manager.handle_request(scope, receive, send)

    async def stop(self) -> None:
        self._stop.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, ready: asyncio.Future[Any]) -> None:
        try:
            manager = await asyncio.to_thread(self._make_manager)  # takes a second
        except Exception as error:
            self._ready = None
            ready.set_exception(error)
            return
        async with manager.run():
            ready.set_result(manager)
            await self._stop.wait()

    def _make_manager(self) -> Any:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from service.connections.mcp.tools import make_server

        server = make_server(self._caller)
        return StreamableHTTPSessionManager(
            server._lowlevel_server, json_response=True, stateless=True
        )

    @asynccontextmanager
    async def _caller(self, context: Any) -> AsyncIterator[AsyncBaton]:
        headers = context.headers or {}
        key = headers.get("authorization", "").partition(" ")[2]
        transport = httpx.ASGITransport(self._api)
        async with AsyncBaton("http://baton", key, transport=transport) as baton:
            yield baton
