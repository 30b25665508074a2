"""The ten MCP tools, each one call of the API by the key of whoever calls it.

Hosts end a call after about a minute, so no tool waits for a person.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from service.client import AsyncBaton, BatonError
from service.client.operations import HandoverReason, Resolution
from service.connections.mcp import results

INSTRUCTIONS = """Baton decides when a person takes over from a bot. Before you answer a customer,
call check_turn with their message, and do what its what_to_do says. Call hand_over when you are
stuck or may not decide. While a person has the conversation you are silent; look with
handoff_status."""

Caller = Callable[[Context], AbstractAsyncContextManager[AsyncBaton]]
"""The client that speaks with the caller's own key."""

ConversationId = Annotated[str, Field(description="Of your choosing, the same all along")]
Turns = Annotated[
    list[dict[str, Any]],
    Field(description="Each {id, author: bot|agent|system, text}, oldest first"),
]
WHAT_TO_DO = {
    "continue": "Answer the customer.",
    "offer": "Ask whether the customer wants a person; tell the answer by answer_offer.",
    "escalate": "Say that a person takes over, then be silent until handoff_status says otherwise.",
    "human_active": "Say nothing: a person has the conversation.",
}
LOOK_SECONDS = {"waiting": 10, "claimed": 30}
"""How long until another look at a handoff is worth it."""


def make_server(caller: Caller) -> MCPServer:
    """An MCP server of these tools."""
    server = MCPServer("baton", version="1", instructions=INSTRUCTIONS, log_level="WARNING")
    for register in (_bot_turn_tools, _bot_report_tools, _agent_tools):
        register(server, _as_tool_errors(caller))
    return server


def _as_tool_errors(caller: Caller) -> Caller:
    """What Baton refuses is told to the model, which can mend it."""

    @asynccontextmanager
    async def calling(context: Context) -> AsyncIterator[AsyncBaton]:
        try:
            async with caller(context) as baton:
                yield baton
        except BatonError as error:
            raise ToolError(str(error)) from error

    return calling


def _bot_turn_tools(server: MCPServer, caller: Caller) -> None:
    @server.tool()
    async def check_turn(
        conversation_id: ConversationId,
        message_id: Annotated[str, Field(description="The same id again gets the same decision")],
        text: Annotated[str, Field(description="What the customer wrote, in their words")],
        context: Context,
        language: Annotated[str | None, Field(description="A tag such as de")] = None,
        bot: Annotated[
            dict[str, Any] | None,
            Field(description="How you fared: {intent, confidence, fallback, tool_error, attempt}"),
        ] = None,
        history: Annotated[
            list[dict[str, Any]],
            Field(description="Turns since the last call: {id, author, text}, yours among them"),
        ] = [],  # noqa: B006
        attributes: Annotated[
            dict[str, Any] | None, Field(description="Facts of the customer or case")
        ] = None,
        advice: Annotated[
            dict[str, float] | None,
            Field(description="Your own or others' probability that a person is needed, by name"),
        ] = None,
    ) -> results.CheckResult:
        """Ask whether a person should take over, before you answer a customer's message."""
        message: Any = {"language": language} if language else {}
        async with caller(context) as baton:
            decision = await baton.score(
                conversation_id,
                text,
                id=message_id,
                history=history,
                attributes=attributes,
                bot=bot,
                advice=advice,
                **message,
            )
        return results.CheckResult(
            action=decision.action,
            probability=decision.probability,
            reasons=[reason.text for reason in decision.reasons],
            decision_id=decision.decision_id,
            handoff_id=None if decision.handoff is None else decision.handoff.id,
            what_to_do=WHAT_TO_DO[decision.action],
            as_of=datetime.now(UTC).isoformat(),
        )

    @server.tool()
    async def hand_over(
        conversation_id: ConversationId,
        reason: HandoverReason,
        summary: Annotated[str, Field(description="For the person: what it is about")],
        context: Context,
        team: str | None = None,
        priority: Annotated[int | None, Field(ge=1, le=4)] = None,
    ) -> results.HandOverResult:
        """Hand the conversation over to a person by your own judgement; say nothing afterwards."""
        more: Any = {"team": team, "priority": priority}
        more = {name: value for name, value in more.items() if value is not None}
        async with caller(context) as baton:
            handoff = await baton.hand_over(conversation_id, reason, summary=summary, **more)
        promised = handoff.promised_at
        return results.HandOverResult(
            handoff_id=handoff.id,
            status=handoff.status,
            team=handoff.team,
            people_there=promised is None,
            promised_at=None if promised is None else promised.isoformat(),
        )

    @server.tool()
    async def answer_offer(
        decision_id: str, accepted: bool, context: Context
    ) -> results.OfferResult:
        """Tell whether the customer accepted the person that was offered."""
        async with caller(context) as baton:
            answered = await baton.answer_offer(decision_id, accepted)
        return results.OfferResult(
            handoff_id=None if answered.handoff is None else answered.handoff.id
        )

    @server.tool()
    async def handoff_status(
        conversation_id: ConversationId, context: Context
    ) -> results.StatusResult:
        """Look whether a person has the conversation now."""
        async with caller(context) as baton:
            state = await baton.conversation(conversation_id, after=2**31 - 1)
        newest = state.handoffs[-1] if state.handoffs else None
        status = "none" if newest is None else newest.status
        return results.StatusResult(
            human_active=state.human_active,
            status=status,
            claimed_by=None if newest is None else newest.claimed_by,
            next_look_seconds=LOOK_SECONDS.get(status, 60),
        )


def _bot_report_tools(server: MCPServer, caller: Caller) -> None:
    @server.tool()
    async def add_turns(
        conversation_id: ConversationId, turns: Turns, context: Context
    ) -> results.TurnsResult:
        """Tell what was said without asking: your own turns, a person's, a system's."""
        async with caller(context) as baton:
            appended = await baton.add_messages(conversation_id, turns)
        return results.TurnsResult(appended=appended.appended, human_active=appended.human_active)

    @server.tool()
    async def close_conversation(
        conversation_id: ConversationId, resolution: Resolution, context: Context
    ) -> results.CloseResult:
        """Tell that the conversation is over."""
        async with caller(context) as baton:
            closed = await baton.close(conversation_id, resolution)
        return results.CloseResult(status=closed.status)

    @server.tool()
    async def report_outcome(
        conversation_id: ConversationId,
        verdict: Literal["missed", "fine"],
        source: Annotated[str, Field(description="Where you know it from, such as complaint")],
        context: Context,
        since_message_id: Annotated[
            str | None, Field(description="missed: the message since which a person was needed")
        ] = None,
    ) -> results.OutcomeResult:
        """Tell what came out of a conversation that no person had."""
        async with caller(context) as baton:
            outcome = await baton.report_outcome(
                conversation_id, verdict, source, since=since_message_id
            )
        return results.OutcomeResult(outcome_id=outcome.id)


def _agent_tools(server: MCPServer, caller: Caller) -> None:
    @server.tool()
    async def list_waiting(
        context: Context,
        team: str | None = None,
        limit: Annotated[int, Field(ge=1, le=200)] = 50,
    ) -> results.WaitingResult:
        """For agents: the handoffs that wait, the most urgent and oldest first."""
        async with caller(context) as baton:
            handoffs = await baton.handoffs("waiting", team)
        return results.WaitingResult(
            handoffs=[
                results.WaitingHandoff(
                    handoff_id=one.id,
                    conversation_id=one.conversation_id,
                    team=one.team,
                    priority=one.priority,
                    opened_at=one.opened_at.isoformat(),
                    reason=one.reason,
                )
                for one in handoffs[:limit]
            ]
        )

    @server.tool()
    async def get_handoff(handoff_id: str, context: Context) -> results.PacketResult:
        """For agents: the whole context of a handoff, so that the customer repeats nothing."""
        async with caller(context) as baton:
            return results.PacketResult(packet=await baton.handoff(handoff_id))

    @server.tool()
    async def record_verdict(
        handoff_id: str,
        verdict: Literal["needed", "not_needed", "unknowable"],
        context: Context,
        since_message_id: Annotated[
            str | None, Field(description="needed: the message since which a person was")
        ] = None,
        note: str | None = None,
    ) -> results.VerdictResult:
        """For agents: was a person needed? The model learns it at once."""
        async with caller(context) as baton:
            outcome = await baton.record_verdict(
                handoff_id, verdict, since=since_message_id, note=note
            )
        learned = "none" if verdict == "unknowable" else "learned"
        return results.VerdictResult(outcome_id=outcome.id, effect=outcome.effect or learned)
