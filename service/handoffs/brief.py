"""Handoff context for the agent: transcript, attempts, reasons with highlights, entities, summary.

It is computed from the conversation at the moment it is asked for, and every item cites its
message: reasons by the phrases that show them, entities and the summary by their spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection

from learning.conversation.brief.entities import facts
from learning.conversation.brief.highlights import Highlight, highlights
from learning.conversation.brief.summary import summary
from learning.conversation.state import CONFIDENCE_LOW, BotReport, Message
from learning.decision.policy import Policy
from learning.decision.words.own_phrases import phrase_hits
from learning.text.signals import Signals, read
from service.store.conversations import conversation_rows
from service.store.handoffs import note_rows
from service.store.labels import outcome_rows
from service.store.ledger import entries

SHOWN_CHARS_MAX = 1_000_000
"""Characters of the newest turns that a transcript shows; `earlier` says how many turns are left
out.
"""

READ_CHARS_MAX = 128_000
"""Characters of the newest turns that are read for highlights, sentiment, facts and summary, beside
the turns that led here: as many as one request may have.
"""

CACHED_CHARS_MAX = 1000
"""The signals of texts up to this length are cached (LRU): an open page asks again and again."""


def context_packet(
    connection: Connection, workspace: str, handoff: Mapping[str, Any]
) -> dict[str, Any]:
    """All that an agent needs to take over a conversation, as plain JSON: transcript, attempts,
    reasons and triggers with their highlights, sentiment by message, entities, a summary, the
    agents' notes, and the outcome if there is one.
    """
    name = handoff["conversation_id"]
    rows = conversation_rows.messages(connection, workspace, name)
    messages = [conversation_rows.message_of(row) for row in rows]
    decision = (
        None
        if handoff["decision_id"] is None
        else conversation_rows.decision(connection, workspace, handoff["decision_id"])
    )
    policy = _policy_of(connection, workspace, decision)
    watched = _watched_by_message(policy, decision)
    near = newest_within(messages, READ_CHARS_MAX)
    signals = _signals_by_message(messages, {m.id for m in messages[near:]} | watched.keys())
    _add_own_phrases(signals, [m for m in messages if m.id in watched], policy)
    episode = messages[max(handoff["begins"] - 1, near) :]
    evidence = _highlights(episode, signals, watched)
    entities = facts(messages[near:])
    trigger_id = decision.message_id if decision is not None else ""
    quotes = summary(episode, trigger_id, _spans_by_message(evidence), _spans_by_message(entities))
    outcome = outcome_rows.current(connection, workspace, name, handoff["id"])
    earlier = newest_within(messages, SHOWN_CHARS_MAX)
    return {
        "earlier": earlier,
        "transcript": list(map(_turn_json, rows[earlier:], messages[earlier:])),
        "attempts": _attempts(messages[: handoff["seq"]]),
        "reasons": decision.reasons if decision is not None else [],
        "triggers": decision.triggers if decision is not None else [],
        "evidence": [asdict(mark) for mark in evidence],
        "probability": decision.probability if decision is not None else None,
        "uncertainty": decision.uncertainty if decision is not None else None,
        "message_id": trigger_id or None,
        "sentiment": [
            {"message_id": name, "sentiment": reading.sentiment}
            for name, reading in signals.items()
        ],
        "suggested_team": decision.team if decision is not None else handoff["team"],
        "route": decision.route if decision is not None else None,
        "language": decision.language if decision is not None else None,
        "facts": [asdict(fact) for fact in entities],
        "summary": [asdict(quote) for quote in quotes],
        "attributes": _attributes(messages),
        "remarks": [
            _note_json(row) for row in note_rows.of_handoff(connection, workspace, handoff)
        ],
        "outcome": outcome and _outcome_json(outcome),
    }


def _policy_of(connection: Connection, workspace: str, decision: Any) -> Policy | None:
    """The policy under which a decision was made."""
    if decision is None:
        return None
    return Policy.from_ledger(entries.newest_policy(connection, workspace, decision.position))


def _watched_by_message(policy: Policy | None, decision: Any) -> dict[str, list[str]]:
    """What the rules that triggered the decision watch for, by message, under its policy."""
    if policy is None:
        return {}
    watches = {rule.name: rule.watches for rule in policy.rules}
    phrases: dict[str, list[str]] = {}
    for trigger in decision.triggers:
        for message in trigger["message_ids"]:
            if trigger["name"] in watches:
                phrases.setdefault(message, []).append(watches[trigger["name"]])
    return phrases


def newest_within(turns: Sequence[Any], chars: int) -> int:
    """Where the newest turns begin that have so many characters together; one at least."""
    place = len(turns)
    while place and (chars := chars - len(turns[place - 1].text)) >= 0:
        place -= 1
    return min(place, max(len(turns) - 1, 0))


def oldest_within(turns: Sequence[Any], chars: int) -> int:
    """Where the oldest turns end that have so many characters together; one at least."""
    place = 0
    while place < len(turns) and (chars := chars - len(turns[place].text)) >= 0:
        place += 1
    return max(place, min(len(turns), 1))


def _signals_by_message(messages: Sequence[Message], wanted: Set[str]) -> dict[str, Signals]:
    """The text signals of the customer messages that are `wanted`, as they were when they were
    scored.
    """
    readings: dict[str, Signals] = {}
    language: str | None = None
    for message in messages:
        language = message.language or language
        if message.author == "user" and message.id in wanted:
            short = len(message.text) <= CACHED_CHARS_MAX
            readings[message.id] = (_read_cached if short else read)(message.text, language)
    return readings


def _add_own_phrases(
    readings: dict[str, Signals], messages: Sequence[Message], policy: Policy | None
) -> None:
    """Add the policy's own phrases, where they stand, to the evidence of these messages."""
    for message in messages if policy is not None and policy.phrases else ():
        if message.id in readings and policy is not None:
            hits = phrase_hits(policy.phrases, message, message.language)
            own = tuple((hit.phrase.signal, hit.quote) for hit in hits)
            reading = readings[message.id]
            readings[message.id] = replace(reading, evidence=(*reading.evidence, *own))


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


def _spans_by_message(items: Iterable[Any]) -> dict[str, list[tuple[int, int]]]:
    """The spans (start, stop) of highlights or entities, by message id."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for item in items:
        spans.setdefault(item.message_id, []).append((item.start, item.stop))
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
        "edits": row.edits,
        "removed": row.removed is not None,
        "agent": message.agent,
        "attachments": [{"type": kind, "name": name} for kind, name in message.attachments],
    }


def _attempts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The bot's attempts in order, and how each failed."""
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
    causes = []
    if report.tool_error:
        causes.append(f"a tool failed: {report.tool_error}")
    if report.fallback:
        causes.append("it did not understand")
    if report.confidence is not None and report.confidence < CONFIDENCE_LOW:
        causes.append(f"it was only {report.confidence:.0%} sure")
    return "; ".join(causes) or None


def _attributes(messages: Sequence[Message]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for message in messages:
        attributes |= dict(message.attributes)
    return attributes


def _note_json(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("agent", "team", "text", "at")}


def _outcome_json(row: Any) -> dict[str, Any]:
    names = ("id", "verdict", "first_needed_message_id", "team", "reason", "note", "agent", "at")
    return {name: getattr(row, name) for name in (*names, "position")}
