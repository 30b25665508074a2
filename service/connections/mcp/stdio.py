"""MCP over stdio: the tools for a host that starts them as a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from service.client import AsyncBaton
from service.connections.mcp.tools import make_server


def serve(url: str, key: str) -> None:
    """Speak MCP on standard input and output until that ends, by one key of a Baton at `url`."""

    @asynccontextmanager
    async def caller(_context: Any) -> AsyncIterator[AsyncBaton]:
        async with AsyncBaton(url, key) as baton:
            yield baton

    make_server(caller).run("stdio")
