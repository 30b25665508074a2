"""Zendesk Sunshine Conversations: the switchboard says whose a conversation is; control is passed.

Bot and agent are both `business`: the active integration tells which of them wrote.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from service.connections.kinds.contract import (
    AgentJoined,
    AgentLeft,
    Arrival,
    Arrived,
    Author,
    Call,
    Command,
    DeliveryEchoed,
    DomainEvent,
    GiveBack,
    Headers,
    Kind,
    KindConfig,
    MessageAdded,
    NotUnderstoodError,
    Reading,
    Say,
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
    require_equal,
    seconds,
)

EVENTS_MAX = 100
METADATA_CHARS_MAX = 3000
_TYPES = frozenset(
    {"conversation:message", "switchboard:passControl", "switchboard:releaseControl"}
)


class SunshineConfig(KindConfig):
    """An app; `bot` is the switchboard integration of the bot, `agents` that of people."""

    base_url: str = "https://api.smooch.io"
    app_id: str
    bot: str
    agents: str = "next"


def verify(
    headers: Headers, raw: bytes, secrets: Sequence[str], now: float, config: SunshineConfig
) -> dict[str, Any]:
    """The body, if it carries the shared secret: it is not signed. Raises NotVerifiedError."""
    require_equal(header(headers, "x-api-key"), secrets)
    return json_object(raw)


def arrive(body: Mapping[str, Any], config: SunshineConfig) -> Arrived:
    """Events, several at once, of this app. Raises NotUnderstoodError."""
    events = body.get("events")
    if not isinstance(events, list) or len(events) > EVENTS_MAX:
        raise NotUnderstoodError(f"the body has no list of at most {EVENTS_MAX} events")
    if mapping(body.get("app")).get("id") != config.app_id:
        return Arrived()
    arrivals = []
    for event in map(mapping, events):
        payload = mapping(event.get("payload"))
        native = mapping(payload.get("conversation")).get("id")
        if word(event.get("type")) in _TYPES and native is not None and event.get("id") is not None:
            at = seconds(event.get("createdAt"))
            kept = {"type": event["type"], "payload": dict(payload)}
            arrivals.append(Arrival(hashed_key(event["id"]), safe_id(native), kept, at))
    return Arrived(arrivals)


def read(event: Mapping[str, Any], link: Mapping[str, Any], config: SunshineConfig) -> Reading:
    payload = mapping(event.get("payload"))
    active = mapping(mapping(payload.get("conversation")).get("activeSwitchboardIntegration"))
    is_bots = not active or config.bot in (active.get("id"), active.get("name"))
    if event.get("type") == "conversation:message":
        return Reading(_read_message(mapping(payload.get("message")), is_bots), link)
    was_bots = link.get("bots", True)
    known = {**link, "bots": is_bots}
    if is_bots and event.get("type") == "switchboard:releaseControl":
        return Reading([AgentLeft("bot")], known)
    if is_bots == was_bots:
        return Reading((), known)
    return Reading([AgentLeft("bot") if is_bots else AgentJoined(None, "opened")], known)


def _read_message(message: Mapping[str, Any], is_bots: bool) -> list[DomainEvent]:
    echoed = mapping(message.get("metadata")).get("baton_delivery")
    if isinstance(echoed, str):
        return [DeliveryEchoed(echoed)]
    sender, content = mapping(message.get("author")), mapping(message.get("content"))
    kind = content.get("type")
    attachments: tuple[tuple[str, str | None], ...] = ()
    if kind in ("image", "file", "video", "audio", "location"):
        attachments = ((str(kind), None),)
    text = kept_text(content.get("text"), attachments)
    if message.get("id") is None or not text or sender.get("type") not in ("user", "business"):
        return []
    author: Author = "user" if sender["type"] == "user" else "bot" if is_bots else "agent"
    agent = kept_text(sender.get("displayName")).strip()[:200] or None
    return [
        MessageAdded(
            safe_id(message["id"]),
            author,
            text,
            agent=agent if author == "agent" else None,
            at=seconds(message.get("received")),
            attachments=attachments,
        )
    ]


def write(
    command: Command, conversation: str, link: Mapping[str, Any], config: SunshineConfig
) -> list[Call]:
    """Control is passed to people with the packet as its metadata, or released."""
    app, native = quote(config.app_id, safe=""), quote(conversation, safe="")
    path = f"/v2/apps/{app}/conversations/{native}"
    if isinstance(command, GiveBack):
        body = {"switchboardIntegration": config.bot, "reason": "returned"}
        return [Call("status", f"{path}/passControl", body, "natural")]
    if isinstance(command, Say):
        said = {
            "author": {"type": "business"}
            | ({"displayName": command.agent} if command.agent else {}),
            "content": {"type": "text", "text": command.text},
            "metadata": {"baton_delivery": delivery_id(command.cause, "say")},
        }
        return [Call("say", f"{path}/messages", said, "once")]
    metadata: dict[str, str] = {}
    if command.packet is not None:
        metadata = {
            "baton_handoff": command.packet.handoff_id,
            "baton_team": str(command.team),
            "baton_priority": str(command.priority),
            "baton_note": command.packet.text[:METADATA_CHARS_MAX],
        }
    passed = {"switchboardIntegration": config.agents, "reason": "escalated"}
    return [Call("status", f"{path}/passControl", passed | {"metadata": metadata}, "natural")]


def authorize(secrets: Mapping[str, str], config: SunshineConfig) -> dict[str, str]:
    pair = f"{secrets.get('key_id', '')}:{secrets.get('key_secret', '')}"
    return {"authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


SUNSHINE = Kind(
    "sunshine",
    SunshineConfig,
    verify,
    arrive,
    read,
    write,
    authorize,
    inbound="webhook_secret",
    outbound=("key_id", "key_secret"),
)
