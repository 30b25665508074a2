"""The context packet: all that an agent needs to go on where automation stopped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from learning.conversation import EMPTY, Message, State, step
from service.store import conversations

_FACTS = {
    "email": re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}"),
    "order": re.compile(
        r"(?i)\b(?:order|ticket|case|invoice|ref(?:erence)?)\W{0,3}(?:no|number|id)?\W{0,3}"
        r"(?:is\s{1,3})?((?=[\w-]{0,30}\d)\w[\w-]{2,30})"
    ),
    "phone": re.compile(r"(?<![\w-])\+?\d[\d ()/-]{7,18}\d(?![\w-])"),
    "amount": re.compile(r"(?:[$€£¥]\s?\d[\d.,]{0,12}|\b\d[\d.,]{0,12}\s?(?:USD|EUR|GBP|€|£))"),
}
_FACTS_MAX = 50


def packet(connection: Connection, workspace: str, handoff: Mapping[str, Any]) -> dict[str, Any]:
    """Transcript, attempts, reasons, triggers, sentiment over time and facts already given."""
    rows = conversations.messages(connection, workspace, handoff["conversation_id"])
    messages = [conversations.message_of(row) for row in rows]
    decision = conversations.decision(connection, workspace, handoff["decision_id"])
    return {
        "transcript": [_turn(row, message) for row, message in zip(rows, messages, strict=True)],
        "attempts": _attempts(messages[: handoff["seq"]]),
        "reasons": decision.reasons if decision is not None else [],
        "triggers": decision.triggers if decision is not None else [],
        "probability": decision.probability if decision is not None else None,
        "sentiment": _sentiment(messages),
        "suggested_team": handoff["team"],
        "facts": facts(messages),
        "attributes": _attributes(messages),
    }


def facts(messages: Sequence[Message]) -> list[dict[str, str]]:
    """What the customer already gave: addresses, numbers, amounts, with the message that has it."""
    found: dict[tuple[str, str], str] = {}
    for message in messages:
        if message.author != "user":
            continue
        for kind, pattern in _FACTS.items():
            for match in pattern.finditer(message.text):
                value = (match.group(1) if match.groups() else match.group()).strip()
                found.setdefault((kind, value), message.id)
    return [
        {"kind": kind, "value": value, "message_id": name}
        for (kind, value), name in list(found.items())[:_FACTS_MAX]
    ]


def _turn(row: Any, message: Message) -> dict[str, Any]:
    return {
        "seq": row.seq,
        "id": message.id,
        "author": message.author,
        "text": message.text,
        "at": message.at,
        "event": message.event,
        "scored": row.scored,
    }


def _attempts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """What automation tried, in order, and whether it failed."""
    return [
        {
            "message_id": message.id,
            "tried": message.bot.attempt or message.bot.intent,
            "confidence": message.bot.confidence,
            "fallback": message.bot.fallback,
            "tool_error": message.bot.tool_error,
            "failed": message.bot.failed,
        }
        for message in messages
        if message.bot is not None
    ]


def _sentiment(messages: Sequence[Message]) -> list[dict[str, Any]]:
    found = []
    state: State = EMPTY
    for message in messages:
        state = step(state, message)
        if message.author == "user":
            found.append({"message_id": message.id, "sentiment": state.signals.sentiment})
    return found


def _attributes(messages: Sequence[Message]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for message in messages:
        given |= dict(message.attributes)
    return given
