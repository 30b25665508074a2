"""Commands that follow from what happened: an event of the outbox, for a connection."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from service.connections.calls.packet_text import packet_text
from service.connections.kinds.contract import Command, GiveBack, HandOver, Kind, Packet, Say
from service.handoffs import brief
from service.store.handoffs import handoff_rows
from service.store.ledger.outbox_rows import WORDS

TYPES = frozenset({"handoff.opened", "handoff.raised", "handoff.returned", "message.agent", WORDS})
"""Events from which something follows for a connection."""


def cause_of(event_id: str, connection_id: str) -> str:
    return f"{event_id}.{connection_id}"


def command_of(
    event: Any, connection_id: str, kind: Kind, *, text: str | None = None
) -> Command | None:
    """What follows from an event, without the words of a packet; None: nothing does."""
    cause, data = cause_of(event.id, connection_id), event.data
    if kind.scope == "workspace":
        if event.type == "handoff.opened" and data["opened_by"] != "person":
            return _hand_over(event, cause)
        return None
    if event.type == "handoff.opened":
        if data["opened_by"] == "person":
            return HandOver(cause)
        return _hand_over(event, cause)
    if event.type == "handoff.raised":
        return HandOver(cause, data["team"], data["priority"])
    if event.type == "handoff.returned" and data.get("connection_id") != connection_id:
        return GiveBack(cause)
    if event.type == "message.agent" and data.get("connection_id") == connection_id:
        return Say(cause, text or "", data["agent"])
    if event.type == WORDS and data["connection_id"] == connection_id:
        return Say(cause, text or "")
    return None


def _hand_over(event: Any, cause: str) -> HandOver:
    packet = Packet(event.conversation_id or "", event.data["handoff_id"], "")
    return HandOver(cause, event.data["team"], event.data["priority"], packet)


def with_words(
    connection: Connection, workspace: str, command: Command, address: str, asks: str
) -> Command:
    """The command with its packet's words, as they are now: what was removed is not sent. `asks` is
    how its kind asks for a verdict.
    """
    if not isinstance(command, HandOver) or command.packet is None:
        return command
    handoff = handoff_rows.handoff(connection, workspace, command.packet.handoff_id)
    if handoff is None:
        return command
    row = handoff._asdict()
    packet = brief.context_packet(connection, workspace, row)
    url = f"{address}/console/handoffs/{row['id']}"
    text = packet_text(row, packet, url, asks)
    filled = Packet(command.packet.conversation_id, row["id"], text, url)
    return HandOver(command.cause, command.team, command.priority, filled)
