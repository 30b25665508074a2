"""MCP: the ten tools by the official client, in memory, over HTTP and over stdio."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from service.client import AsyncBaton
from service.connections.mcp.tools import WHAT_TO_DO, make_server
from tests.service.web.test_bounds import Stall
from tests.service_in_process import ASKS, QUIET, InProcess, Place, refusal, serving

ROOT = Path(__file__).parents[3]
BOT_TOOLS = [
    "check_turn",
    "hand_over",
    "answer_offer",
    "handoff_status",
    "add_turns",
    "close_conversation",
    "report_outcome",
]
AGENT_TOOLS = ["list_waiting", "get_handoff", "record_verdict"]
Connect = Callable[[Place, str], AbstractAsyncContextManager[Client]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("mcp")) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace()


@asynccontextmanager
async def in_memory(place: Place, role: str) -> AsyncIterator[Client]:
    @asynccontextmanager
    async def caller(_context: Any) -> AsyncIterator[AsyncBaton]:
        async with AsyncBaton(place.service.url, place.keys[role]) as baton:
            yield baton

    async with Client(make_server(caller)) as client:
        yield client


@asynccontextmanager
async def over_http(place: Place, role: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {place.keys[role]}"}
    async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=None) as http:
        transport = streamable_http_client(f"{place.service.url}/mcp", http_client=http)
        async with Client(transport) as client:
            yield client


@asynccontextmanager
async def over_stdio(place: Place, role: str) -> AsyncIterator[Client]:
    command = ["-m", "service", "mcp", "--url", place.service.url]
    environ = {"BATON_KEY": place.keys[role], "PYTHONPATH": str(ROOT)}
    parameters = StdioServerParameters(command=sys.executable, args=command, env=environ)
    async with Client(stdio_client(parameters)) as client:
        yield client


WAYS = [in_memory, over_http, over_stdio]


def run(story: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(story)


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    return answer.structured_content


@pytest.mark.parametrize("way", WAYS)
def test_an_agent_of_a_language_model_hands_over_is_silent_and_resumes(
    place: Place, way: Connect
) -> None:
    async def story() -> None:
        async with way(place, "bot") as bot:
            tools = (await bot.list_tools()).tools
            assert [tool.name for tool in tools] == BOT_TOOLS + AGENT_TOOLS
            kept = await call(
                bot, "check_turn", conversation_id="c", message_id="m1", text=QUIET, language="en"
            )
            assert (kept["action"], kept["what_to_do"]) == ("continue", WHAT_TO_DO["continue"])
            said = [{"id": "b1", "author": "bot", "text": "until six"}]
            assert await call(bot, "add_turns", conversation_id="c", turns=said) == {
                "appended": 1,
                "human_active": False,
            }
            handed = await call(
                bot, "hand_over", conversation_id="c", reason="stuck", summary="cannot look it up"
            )
            assert (handed["status"], handed["people_there"]) == ("waiting", True)
            looked = await call(bot, "handoff_status", conversation_id="c")
            assert (looked["human_active"], looked["status"]) == (True, "waiting")
            again = await call(
                bot, "check_turn", conversation_id="c", message_id="m2", text="are you there"
            )
            assert again["action"] == "human_active"
            place.agent.posted(f"/v1/handoffs/{handed['handoff_id']}/return")
            looked = await call(bot, "handoff_status", conversation_id="c")
            assert (looked["human_active"], looked["status"]) == (False, "returned")
            closed = await call(
                bot, "close_conversation", conversation_id="c", resolution="resolved"
            )
            assert closed == {"status": "closed"}

    run(story())


def test_an_offer_is_answered_and_an_outcome_reported(place: Place) -> None:
    async def story() -> None:
        async with over_http(place, "bot") as bot:
            await call(bot, "check_turn", conversation_id="d", message_id="m1", text=QUIET)
            await call(bot, "close_conversation", conversation_id="d", resolution="unknown")
            outcome = await call(
                bot, "report_outcome", conversation_id="d", verdict="missed", source="complaint"
            )
            assert outcome["outcome_id"]
            place.offering()
            offered = await call(
                bot, "check_turn", conversation_id="c", message_id="m1", text="it is broken"
            )
            assert offered["action"] == "offer"
            answered = await call(
                bot, "answer_offer", decision_id=offered["decision_id"], accepted=True
            )
            assert answered["handoff_id"]

    run(story())


def test_an_agent_sees_the_queue_and_teaches(place: Place) -> None:
    async def story() -> None:
        handoff = place.escalated()
        async with over_http(place, "agent") as agent:
            waiting = await call(agent, "list_waiting")
            assert [one["handoff_id"] for one in waiting["handoffs"]] == [handoff]
            packet = (await call(agent, "get_handoff", handoff_id=handoff))["packet"]
            assert packet["transcript"][0]["text"] == ASKS
            learned = await call(agent, "record_verdict", handoff_id=handoff, verdict="needed")
            assert learned["effect"] == "learned"
        assert [body["verdict"] for body in place.ledger()] == ["needed"]

    run(story())


def test_a_key_reaches_no_further_than_over_the_api(place: Place) -> None:
    async def story() -> None:
        async with over_http(place, "bot") as bot:
            for tool, arguments in (
                ("list_waiting", {}),
                ("get_handoff", {"handoff_id": place.escalated()}),
            ):
                answer = await bot.call_tool(tool, arguments)
                assert answer.is_error
                assert "role_too_low" in str(answer.content)

    run(story())


def test_what_baton_refuses_is_told_to_the_model(place: Place) -> None:
    async def story() -> None:
        async with over_http(place, "bot") as bot:
            first = {"conversation_id": "c", "message_id": "m1", "text": QUIET}
            await call(bot, "check_turn", **first)
            answer = await bot.call_tool("check_turn", first | {"text": ASKS})
            assert answer.is_error
            assert "an edit goes to PUT" in str(answer.content)
            assert (await bot.call_tool("check_turn", {"text": 3})).is_error
            assert (await bot.call_tool("handoff_status", {"conversation_id": "none"})).is_error

    run(story())


def test_without_a_key_nobody_is_answered(service: InProcess) -> None:
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    refusal(service.caller().post("/mcp", json=listing), 401, "no_key")
    refusal(service.caller("bk_stranger").post("/mcp", json=listing), 401, "unknown_key")


def test_a_workspace_sees_nothing_of_another(service: InProcess, place: Place) -> None:
    place.bot.decided("secret", "m1", QUIET)
    other = service.workspace()

    async def story() -> None:
        async with over_http(other, "bot") as bot:
            answer = await bot.call_tool("handoff_status", {"conversation_id": "secret"})
            assert answer.is_error

    run(story())


def test_every_tool_describes_what_it_takes_and_gives(place: Place) -> None:
    async def story() -> None:
        async with in_memory(place, "bot") as bot:
            for tool in (await bot.list_tools()).tools:
                assert tool.description, tool.name
                assert tool.output_schema, tool.name
                assert "context" not in tool.input_schema["properties"], tool.name

    run(story())


def test_a_host_without_a_key_is_told_how_to_give_one(tmp_path: Path) -> None:
    run_ = subprocess.run(
        [sys.executable, "-m", "service", "mcp", "--home", str(tmp_path / "none")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run_.returncode == 1
    assert "BATON_KEY" in run_.stderr
    assert run_.stdout == ""


def test_the_first_request_holds_nobody_up_while_mcp_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [
        one for one in sys.modules if one.startswith(("mcp.", "service.connections.mcp."))
    ]:
        monkeypatch.delitem(sys.modules, name)
    with serving(tmp_path) as service:
        place = service.workspace()
        body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        accepts = {"accept": "application/json, text/event-stream"}
        longest, _ = Stall(service).during(
            lambda: place.bot.post("/mcp", json=body, headers=accepts)
        )
    assert longest < 0.1
