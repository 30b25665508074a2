"""Chatwoot: heard by an account webhook, acted on by an agent bot's token.

A conversation is the bot's while it is pending and people's while it is open. No event names who
changed its status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from service.connections.kinds.contract import (
    AgentJoined,
    AgentLeft,
    Arrival,
    Arrived,
    Author,
    Call,
    Command,
    ConversationEnded,
    ConversationRated,
    DeliveryEchoed,
    DomainEvent,
    GiveBack,
    Headers,
    Kind,
    KindConfig,
    MessageAdded,
    MessageEdited,
    MessageRemoved,
    NotVerifiedError,
    Reading,
    Say,
    VerdictGiven,
    delivery_id,
    kept_text,
    mapping,
    safe_id,
    word,
)
from service.connections.kinds.signatures import (
    hashed_key,
    header,
    json_object,
    require_recent,
    require_signature,
    seconds,
)

MESSAGES = frozenset({"message_created", "message_updated"})
STATUS_EVENTS = {"conversation_opened": "open", "conversation_resolved": "resolved"}
CONVERSATIONS = frozenset(
    {"conversation_created", "conversation_status_changed", "conversation_updated", *STATUS_EVENTS}
)
_TYPES = {0: "incoming", 1: "outgoing", 2: "activity", 3: "template"}
_PRIORITIES = {1: "urgent", 2: "high", 3: "medium", 4: "low"}
_LABELS: Mapping[str, Any] = {"baton-needed": "needed", "baton-not-needed": "not_needed"}
_COMMAND = re.compile(
    r"^\s*/baton\s+(needed|not[ _-]needed|unknowable)(?:\s+since\s+#?(\d{1,4}))?\s*$",
    re.IGNORECASE | re.MULTILINE,
)


class ChatwootConfig(KindConfig):
    """An account; all its inboxes, or these; Chatwoot's team by the policy's."""

    account_id: int
    inbox_ids: list[int] | None = None
    teams: dict[str, int] = {}


def verify(
    headers: Headers, raw: bytes, secrets: Sequence[str], now: float, config: ChatwootConfig
) -> dict[str, Any]:
    """The body, if it is signed by one of the secrets. Raises NotVerifiedError."""
    timestamp = header(headers, "x-chatwoot-timestamp")
    require_recent(timestamp, now)
    given = header(headers, "x-chatwoot-signature")
    if not given.startswith("sha256="):
        raise NotVerifiedError("there is no signature: older servers do not sign")
    signed = timestamp.encode() + b"." + raw
    require_signature(given.removeprefix("sha256="), signed, secrets)
    return json_object(raw)


def arrive(body: Mapping[str, Any], config: ChatwootConfig) -> Arrived:
    """The event, where it is of this account and inbox and of a kind that is read."""
    name, conversation = word(body.get("event")), _conversation(body)
    account = mapping(body.get("account")).get("id", body.get("account_id", config.account_id))
    inbox = conversation.get("inbox_id", mapping(body.get("inbox")).get("id"))
    is_ours = account == config.account_id and (
        config.inbox_ids is None or inbox in config.inbox_ids
    )
    if not is_ours or name not in MESSAGES | CONVERSATIONS or conversation.get("id") is None:
        return Arrived()
    native = f"{config.account_id}:{safe_id(conversation['id'])}"
    at = seconds(body.get("updated_at")) or seconds(conversation.get("updated_at"))
    if name == "message_created":
        key: tuple[Any, ...] = (name, body.get("id"))
        at = seconds(body.get("created_at"))
    elif name == "message_updated":
        key = (name, body.get("id"), body.get("updated_at"), body.get("content"))
        key += (body.get("content_attributes"),)
    else:
        key = (name, conversation["id"], body.get("updated_at"), body.get("status"))
        key += (body.get("changed_attributes"), body.get("labels"))
    kept = {k: v for k, v in body.items() if k not in ("contact_inbox", "custom_attributes")}
    return Arrived([Arrival(hashed_key(*key), native, kept, at)])


def _conversation(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The conversation of an event, which conversation events are themselves."""
    inside = mapping(body.get("conversation"))
    return inside or (body if word(body.get("event")) in CONVERSATIONS else {})


def read(event: Mapping[str, Any], link: Mapping[str, Any], config: ChatwootConfig) -> Reading:
    """What happened. What a conversation event tells later than a newer one did is not believed."""
    if word(event.get("event")) in MESSAGES:
        return Reading(_read_message(event), link)
    return _read_conversation(event, link)


def _read_message(event: Mapping[str, Any]) -> list[DomainEvent]:
    attributes = mapping(event.get("content_attributes"))
    echoed = mapping(attributes.get("baton")).get("delivery")
    if isinstance(echoed, str):
        return [DeliveryEchoed(echoed)]
    sender = mapping(event.get("sender"))
    kind = event.get("message_type")
    kind = _TYPES.get(kind, "") if isinstance(kind, int) else kind
    if event.get("content_type") == "input_csat":
        return _read_rating(attributes)
    if event.get("private") is True:
        return _read_note(event, sender)
    author = _author(event, kind, sender, attributes)
    if author is None or event.get("id") is None:
        return []
    if attributes.get("deleted") is True:
        return [MessageRemoved(safe_id(event["id"]))] if author == "user" else []
    attachments = _attachments(event)
    text = kept_text(event.get("content"), attachments)
    if not text:
        return []
    name = sender.get("name")
    message = MessageAdded(
        safe_id(event["id"]),
        author,
        text,
        agent=_name(name) if author == "agent" else None,
        at=seconds(event.get("created_at")),
        attachments=attachments,
    )
    if event.get("event") == "message_created":
        return [message]
    return [MessageEdited(message)] if author == "user" else []


def _author(
    event: Mapping[str, Any], kind: Any, sender: Mapping[str, Any], attributes: Mapping[str, Any]
) -> Author | None:
    """Who wrote a public message; None where it is no turn."""
    if kind == "incoming":
        return "user"
    if kind not in ("outgoing", "template"):
        return None
    campaign = mapping(event.get("additional_attributes")).get("campaign_id")
    if kind == "template" or attributes.get("automation_rule_id") or campaign:
        return "bot"
    if sender.get("type") == "user":
        return "agent"
    by_phone = not sender and attributes.get("external_created_at")
    return "agent" if by_phone else "bot"


def _attachments(event: Mapping[str, Any]) -> tuple[tuple[str, str | None], ...]:
    given = event.get("attachments")
    rows = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    return tuple((str(one.get("file_type") or "file")[:50], None) for one in rows[:20])


def _name(given: Any) -> str | None:
    name = kept_text(given).strip()[:200]
    return name or None


def _read_rating(attributes: Mapping[str, Any]) -> list[DomainEvent]:
    values = mapping(attributes.get("submitted_values"))
    rating = mapping(values.get("csat_survey_response")).get("rating")
    if isinstance(rating, int) and not isinstance(rating, bool) and 1 <= rating <= 5:
        return [ConversationRated(rating)]
    return []


def _read_note(event: Mapping[str, Any], sender: Mapping[str, Any]) -> list[DomainEvent]:
    """A private note of a person may be a verdict."""
    found = _COMMAND.search(str(event.get("content") or "")[:2000])
    if found is None or sender.get("type") != "user" or event.get("event") != "message_created":
        return []
    verdict: Any = re.sub(r"[ -]", "_", found[1].lower())
    since = int(found[2]) if found[2] and verdict == "needed" else None
    return [VerdictGiven(verdict, "note", _name(sender.get("name")), since)]


def _read_conversation(event: Mapping[str, Any], link: Mapping[str, Any]) -> Reading:
    at = seconds(event.get("updated_at")) or 0.0
    if at and at < link.get("at", 0.0):
        return Reading((), link)
    meta, changed = mapping(event.get("meta")), _changed(event)
    status = STATUS_EVENTS.get(str(event.get("event")), event.get("status"))
    before = changed.get("status", (link.get("status"), None))[0]
    is_person = meta.get("assignee_type") in (None, "User")
    assignee = _name(mapping(meta.get("assignee")).get("name")) if is_person else None
    labels = event.get("labels")
    labels = [str(one) for one in labels][:100] if isinstance(labels, list) else link.get("labels")
    known = {**link, "at": max(at, link.get("at", 0.0)), "status": status, "assignee": assignee}
    if labels is not None:
        known["labels"] = labels
    events: list[DomainEvent] = []
    if status != link.get("status"):
        events += _status_events(before, status, assignee or link.get("assignee"))
    was_assigned = "assignee_id" in changed or assignee != link.get("assignee")
    if assignee is not None and was_assigned and event.get("event") != "conversation_created":
        events.append(AgentJoined(assignee, "assigned"))
    before_labels = changed.get("label_list", (link.get("labels"), None))[0]
    for label in labels or () if isinstance(before_labels, list) or before_labels is None else ():
        if label in _LABELS and label not in (before_labels or ()):
            events.append(VerdictGiven(_LABELS[label], "label", assignee))
    return Reading(events, known)


def _changed(event: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What changed, by name: the value before and the one now."""
    rows = event.get("changed_attributes")
    return {
        str(name): (mapping(values).get("previous_value"), mapping(values).get("current_value"))
        for row in (rows if isinstance(rows, list) else ())
        for name, values in mapping(row).items()
    }


def _status_events(before: Any, status: Any, assignee: str | None) -> list[DomainEvent]:
    if status == "open" and before == "pending":
        return [AgentJoined(None, "opened")]
    if status == "pending" and before in ("open", "snoozed"):
        return [AgentLeft("bot")]
    if status == "resolved":
        return [ConversationEnded("agent" if assignee else "unknown")]
    return []


def write(
    command: Command, conversation: str, link: Mapping[str, Any], config: ChatwootConfig
) -> list[Call]:
    """The calls of a command: the status first, then team, priority and note."""
    account, _, native = conversation.partition(":")
    path = f"/api/v1/accounts/{account}/conversations/{native}"
    if isinstance(command, GiveBack):
        return [Call("status", f"{path}/toggle_status", {"status": "pending"}, "natural")]
    if isinstance(command, Say):
        return [_message("say", path, command.text, False, command.cause)]
    calls = [Call("status", f"{path}/toggle_status", {"status": "open"}, "natural")]
    if command.team in config.teams:
        body = {"team_id": config.teams[str(command.team)]}
        calls.append(Call("team", f"{path}/assignments", body, "natural"))
    if command.priority is not None:
        priority = {"priority": _PRIORITIES.get(command.priority, "medium")}
        calls.append(Call("priority", f"{path}/toggle_priority", priority, "natural"))
    if command.packet is not None:
        text = command.packet.text
        calls.append(_message("note", path, text, True, command.cause))
    return calls


def _message(name: str, path: str, text: str, private: bool, cause: str) -> Call:
    body = {
        "content": text,
        "message_type": "outgoing",
        "private": private,
        "content_attributes": {"baton": {"delivery": delivery_id(cause, name)}},
    }
    return Call(name, f"{path}/messages", body, "marked" if private else "once")


def authorize(secrets: Mapping[str, str], config: ChatwootConfig) -> dict[str, str]:
    return {"api_access_token": secrets.get("api_access_token", "")}


CHATWOOT = Kind(
    "chatwoot",
    ChatwootConfig,
    verify,
    arrive,
    read,
    write,
    authorize,
    inbound="webhook_secret",
    outbound=("api_access_token",),
    asks="Was a person needed? Label it baton-needed or baton-not-needed, or note "
    "/baton needed since NUMBER or /baton not needed.",
)
