"""Reader and writer of Baton's own JSON Lines format: a conversation with its labels a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.datasets.episode import (
    BEGAN,
    TURN_SECONDS,
    Episode,
    FieldError,
    Record,
    author_of,
    id_of,
    objects,
    require_field,
    text_of,
)
from learning.conversation.state import BotReport, Message
from learning.ledger.lessons import VERDICTS, lessons

_AUTHORS: Mapping[object, str] = {name: name for name in ("user", "bot", "agent", "system")}
_REPORTED: Mapping[str, type] = {
    "intent": str,
    "confidence": float,
    "fallback": bool,
    "tool_error": str,
    "attempt": str,
}


def read_conversation(record: Record, target: str) -> Episode:  # noqa: ARG001 - there is one target
    """One exported conversation.

    `conversation_id`; `messages` of `id`, `author`, `text` and optionally `at` (seconds), `bot`,
    `language`, `attributes`, `event`, `scored` (by default the customer's are); and either
    `labels` of `message_id` and `label` (0 to 1), or an `outcome` of `verdict` and optionally
    `first_needed_message_id` and `escalating_message_id`, which teaches what
    `learning.ledger.lessons` says. With neither, nothing was found out.
    """
    messages: list[Message] = []
    scored: list[int] = []
    places: dict[object, int] = {}
    for where, entry in objects(record, "messages"):
        place = len(messages)
        message = _message(entry, where, BEGAN + TURN_SECONDS * place)
        if message.id in places:
            raise FieldError(f"field {where}id repeats {message.id!r}; give each its own id")
        places[message.id] = place
        messages.append(message)
        if (
            require_field(entry, "scored", bool, where)
            if "scored" in entry
            else message.author == "user"
        ):
            scored.append(place)
    if record.get("labels") is not None:
        label_by_place = {}
        for where, entry in objects(record, "labels"):
            label = require_field(entry, "label", float, where)
            if not 0 <= label <= 1:
                raise FieldError(f"field {where}label is {label!r}; use a number from 0 to 1")
            label_by_place[_place(entry, "message_id", places, where)] = float(label)
    else:
        label_by_place = _outcome_labels(record, places, scored)
    every = tuple(sorted({*scored, *label_by_place}))
    labels = tuple(sorted(label_by_place.items()))
    return Episode(id_of(record, "conversation_id"), tuple(messages), labels, every)


def _message(entry: Record, where: str, at: float) -> Message:
    report = None
    if entry.get("bot") is not None:
        fields = require_field(entry, "bot", dict, where)
        unknown = sorted(set(fields) - set(_REPORTED))
        if unknown:
            allowed = ", ".join(_REPORTED)
            raise FieldError(f"field {where}bot.{unknown[0]} is unknown; use {allowed}")
        for name, value in fields.items():
            if value is not None:
                require_field(fields, name, _REPORTED[name], f"{where}bot.")
        report = BotReport(**fields)
    attributes = entry.get("attributes") and require_field(entry, "attributes", dict, where)
    advice = entry.get("advice") and require_field(entry, "advice", dict, where)
    return Message(
        id=require_field(entry, "id", str, where),
        author=author_of(entry, "author", _AUTHORS, where),
        text=text_of(entry, where),
        at=float(require_field(entry, "at", float, where)) if entry.get("at") is not None else at,
        language=require_field(entry, "language", str, where) if entry.get("language") else None,
        bot=report,
        attributes=tuple(sorted(attributes.items())) if attributes else (),
        event=require_field(entry, "event", str, where) if entry.get("event") else None,
        advice=tuple(sorted(advice.items())) if advice else (),
    )


def _outcome_labels(
    record: Record, places: Mapping[object, int], scored: Iterable[int]
) -> dict[int, float]:
    if record.get("outcome") is None:
        return {}
    where, outcome = "outcome.", require_field(record, "outcome", dict)
    verdict = require_field(outcome, "verdict", str, where)
    if verdict not in VERDICTS or verdict == "labels":
        allowed = ", ".join(name for name in VERDICTS if name != "labels")
        raise FieldError(f"field {where}verdict is {verdict!r}; use one of {allowed}")
    body: dict[str, Any] = {"verdict": verdict, "begins": 1, "covers": len(places)}
    for name, field in (
        ("since", "first_needed_message_id"),
        ("escalated", "escalating_message_id"),
    ):
        is_given = outcome.get(field) is not None
        body[name] = _place(outcome, field, places, where) + 1 if is_given else None
    return {x.seq - 1: x.label for x in lessons(body, (place + 1 for place in scored))}


def _place(entry: Record, name: str, places: Mapping[object, int], where: str) -> int:
    message_id = require_field(entry, name, str, where)
    if message_id not in places:
        raise FieldError(
            f"field {where}{name} is {message_id!r}; name a message of this conversation"
        )
    return places[message_id]


def episode_line(episode: Episode) -> str:
    """An episode as one line of Baton's own format, without the line's end."""
    messages = []
    scored = set(episode.scored)
    for place, message in enumerate(episode.messages):
        entry: dict[str, Any] = {"id": message.id, "author": message.author, "text": message.text}
        entry["at"] = message.at
        entry["scored"] = place in scored
        if message.language is not None:
            entry["language"] = message.language
        if message.bot is not None:
            report = {name: getattr(message.bot, name) for name in _REPORTED}
            entry["bot"] = {k: v for k, v in report.items() if v is not None}
        if message.attributes:
            entry["attributes"] = dict(message.attributes)
        if message.event is not None:
            entry["event"] = message.event
        if message.advice:
            entry["advice"] = dict(message.advice)
        messages.append(entry)
    labels = [
        {"message_id": episode.messages[place].id, "label": label}
        for place, label in episode.labels
    ]
    line = {"conversation_id": episode.id, "messages": messages, "labels": labels}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))
