"""The context packet: all that an agent needs to go on where automation stopped.

Everything is read from the conversation itself at the moment it is asked for, and everything found
cites its message: reasons by the words that show them, facts and the summary by their spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection

from learning.conversation.brief.entities import facts
from learning.conversation.brief.highlights import Highlight, highlights
from learning.conversation.brief.summary import summary
from learning.conversation.state import CONFIDENCE_LOW, BotReport, Message
from learning.decision.policy import Policy
from learning.text.signals import Signals, read
from service.store.conversations import conversation_rows
from service.store.handoffs import note_rows
from service.store.labels import outcome_rows
from service.store.ledger import entries

CACHED_CHARS_MAX = 1000
"""The signals of texts up to this length are remembered: an open page asks again and again."""


def context_packet(
    connection: Connection, workspace: str, handoff: Mapping[str, Any]
) -> dict[str, Any]:
    """Transcript, attempts, reasons and triggers with their evidence, sentiment over time, facts
    already given, a summary; what agents remarked, and the outcome if there is one.
    """
    name = handoff["conversation_id"]
    rows = conversation_rows.messages(connection, workspace, name)
    messages = [conversation_rows.message_of(row) for row in rows]
    decision = conversation_rows.decision(connection, workspace, handoff["decision_id"])
    watched = _watched_by_message(connection, workspace, decision)
    signals = _signals_by_message(messages)
    here = messages[handoff["begins"] - 1 :]
    shown = _highlights(here, signals, watched)
    known = facts(messages)
    led_here = decision.message_id if decision is not None else ""
    told = summary(here, led_here, _spans_by_message(shown), _spans_by_message(known))
    held = outcome_rows.current(connection, workspace, name, handoff["id"])
    return {
        "transcript": [
            _turn_json(row, message) for row, message in zip(rows, messages, strict=True)
        ],
        "attempts": _attempts(messages[: handoff["seq"]]),
        "reasons": decision.reasons if decision is not None else [],
        "triggers": decision.triggers if decision is not None else [],
        "evidence": [asdict(mark) for mark in shown],
        "probability": decision.probability if decision is not None else None,
        "uncertainty": decision.uncertainty if decision is not None else None,
        "message_id": led_here or None,
        "sentiment": [
            {"message_id": name, "sentiment": one.sentiment} for name, one in signals.items()
        ],
        "suggested_team": decision.team if decision is not None else handoff["team"],
        "route": decision.route if decision is not None else None,
        "facts": [asdict(fact) for fact in known],
        "summary": [asdict(quote) for quote in told],
        "attributes": _attributes(messages),
        "remarks": [
            _note_json(row) for row in note_rows.of_handoff(connection, workspace, handoff)
        ],
        "outcome": held and _outcome_json(held),
    }


def _watched_by_message(
    connection: Connection, workspace: str, decision: Any
) -> dict[str, list[str]]:
    """By message, what the rules among the triggers watched, as the policy was at the decision."""
    if decision is None:
        return {}
    policy = Policy.model_validate(entries.newest_policy(connection, workspace, decision.position))
    watches = {rule.name: rule.watches for rule in policy.rules}
    found: dict[str, list[str]] = {}
    for trigger in decision.triggers:
        for message in trigger["message_ids"]:
            if trigger["name"] in watches:
                found.setdefault(message, []).append(watches[trigger["name"]])
    return found


def _signals_by_message(messages: Sequence[Message]) -> dict[str, Signals]:
    """What each message of the customer shows, as it was read when it was scored."""
    found: dict[str, Signals] = {}
    language: str | None = None
    for message in messages:
        language = message.language or language
        if message.author == "user":
            short = len(message.text) <= CACHED_CHARS_MAX
            found[message.id] = (_read_cached if short else read)(message.text, language)
    return found


_read_cached = lru_cache(maxsize=4096)(read)


def _highlights(
    messages: Sequence[Message],
    signals: Mapping[str, Signals],
    watched: Mapping[str, Sequence[str]],
) -> list[Highlight]:
    return [
        mark
        for message in messages
        if message.id in signals
        for mark in highlights(
            message.id, message.text, signals[message.id], watched.get(message.id, ())
        )
    ]


def _spans_by_message(found: Iterable[Any]) -> dict[str, list[tuple[int, int]]]:
    """Where marks or facts stand, by message."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for one in found:
        spans.setdefault(one.message_id, []).append((one.start, one.stop))
    return spans


def _turn_json(row: Any, message: Message) -> dict[str, Any]:
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
    """What automation tried, in order, and how it failed."""
    return [
        {
            "message_id": message.id,
            "tried": message.bot.attempt or message.bot.intent,
            "confidence": message.bot.confidence,
            "fallback": message.bot.fallback,
            "tool_error": message.bot.tool_error,
            "failed": message.bot.failed,
            "failure": _failure(message.bot),
        }
        for message in messages
        if message.bot is not None
    ]


def _failure(report: BotReport) -> str | None:
    """How an attempt failed, in words; None for one that did not."""
    said = []
    if report.tool_error:
        said.append(f"a tool failed: {report.tool_error}")
    if report.fallback:
        said.append("it did not understand")
    if report.confidence is not None and report.confidence < CONFIDENCE_LOW:
        said.append(f"it was only {report.confidence:.0%} sure")
    return "; ".join(said) or None


def _attributes(messages: Sequence[Message]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for message in messages:
        given |= dict(message.attributes)
    return given


def _note_json(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("agent", "team", "text", "at")}


def _outcome_json(row: Any) -> dict[str, Any]:
    names = ("id", "verdict", "first_needed_message_id", "team", "reason", "note", "agent", "at")
    return {name: getattr(row, name) for name in (*names, "position")}
