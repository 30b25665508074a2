"""Slack: every handoff of the workspace is told in a channel, with the buttons Needed and Not
needed, whose answers are verdicts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from service.connections.kinds.contract import (
    Arrival,
    Arrived,
    Call,
    Command,
    HandOver,
    Headers,
    Kind,
    KindConfig,
    NotUnderstoodError,
    NotVerifiedError,
    Reading,
    VerdictGiven,
    delivery_id,
    kept_text,
    mapping,
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

SECTION_CHARS_MAX = 2900
_ACTIONS: Mapping[Any, Any] = {"baton_needed": "needed", "baton_not_needed": "not_needed"}


class SlackConfig(KindConfig):
    """A channel, and of which teams' handoffs it is told; all, where none is named."""

    base_url: str = "https://slack.com/api"
    channel: str
    teams: list[str] = []


def verify(
    headers: Headers, raw: bytes, secrets: Sequence[str], now: float, config: SlackConfig
) -> dict[str, Any]:
    """The body, if it is signed by one of the secrets. Raises NotVerifiedError."""
    timestamp = header(headers, "x-slack-request-timestamp")
    require_recent(timestamp, now)
    given = header(headers, "x-slack-signature")
    if not given.startswith("v0="):
        raise NotVerifiedError("there is no signature")
    signed = b"v0:" + timestamp.encode() + b":" + raw
    require_signature(given.removeprefix("v0="), signed, secrets)
    if header(headers, "content-type").startswith("application/x-www-form-urlencoded"):
        payload = parse_qs(raw.decode("utf-8", "replace")).get("payload")
        if not payload:
            raise NotUnderstoodError("the form has no field payload")
        return json_object(payload[0].encode())
    return json_object(raw)


def arrive(body: Mapping[str, Any], config: SlackConfig) -> Arrived:
    """A button that was pressed; or the question whether somebody is here."""
    if body.get("type") == "url_verification":
        return Arrived(answer={"challenge": kept_text(body.get("challenge"))[:500]})
    actions = body.get("actions")
    action = mapping(actions[0]) if isinstance(actions, list) and actions else {}
    conversation = action.get("value")
    if body.get("type") != "block_actions" or word(action.get("action_id")) not in _ACTIONS:
        return Arrived()
    if not isinstance(conversation, str) or not 0 < len(conversation) <= 200:
        return Arrived()
    message = mapping(body.get("container")).get("message_ts")
    user = mapping(body.get("user"))
    key = hashed_key(message, action.get("action_ts"), action.get("action_id"), user.get("id"))
    kept = {"action": action.get("action_id"), "user": user.get("name") or user.get("username")}
    at = seconds(action.get("action_ts"))
    return Arrived([Arrival(key, conversation, kept, at, is_own_id=True)])


def read(event: Mapping[str, Any], link: Mapping[str, Any], config: SlackConfig) -> Reading:
    verdict = _ACTIONS.get(word(event.get("action")))
    if verdict is None:
        return Reading((), link)
    return Reading([VerdictGiven(verdict, "button", kept_text(event.get("user")) or None)], link)


def write(
    command: Command, conversation: str, link: Mapping[str, Any], config: SlackConfig
) -> list[Call]:
    """A message with the packet and two buttons."""
    if not isinstance(command, HandOver) or command.packet is None:
        return []
    if config.teams and command.team not in config.teams:
        return []
    packet = command.packet
    text = _escaped(packet.text)[:SECTION_CHARS_MAX] or "-"
    body = {
        "channel": config.channel,
        "text": _escaped(f"Handoff to {command.team}, priority {command.priority}"),
        "blocks": [
            {
                "type": "section",
                "text": {"type": "mrkdwn", "text": text[:SECTION_CHARS_MAX] or "-"},
            },
            {
                "type": "actions",
                "elements": [
                    _button("Needed", "baton_needed", packet.conversation_id),
                    _button("Not needed", "baton_not_needed", packet.conversation_id),
                ],
            },
        ],
        "metadata": {
            "event_type": "baton_handoff",
            "event_payload": {"delivery": delivery_id(command.cause, "message")},
        },
        "unfurl_links": False,
    }
    return [Call("message", "/chat.postMessage", body, "marked")]


def _button(text: str, action: str, value: str) -> dict[str, Any]:
    label = {"type": "plain_text", "text": text}
    return {"type": "button", "text": label, "action_id": action, "value": value}


def _escaped(text: str) -> str:
    """A customer's words name nobody and link nowhere."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def refusal(body: bytes) -> str | None:
    """Slack answers 200 and says in the body what was wrong."""
    try:
        said = mapping(json.loads(body))
    except ValueError:
        return "it answered with no JSON"
    return None if said.get("ok") is True else f"it answered {str(said.get('error'))[:100]}"


def authorize(secrets: Mapping[str, str], config: SlackConfig) -> dict[str, str]:
    return {
        "authorization": f"Bearer {secrets.get('bot_token', '')}",
        "content-type": "application/json; charset=utf-8",
    }


SLACK = Kind(
    "slack",
    SlackConfig,
    verify,
    arrive,
    read,
    write,
    authorize,
    inbound="signing_secret",
    outbound=("bot_token",),
    scope="workspace",
    refusal=refusal,
    asks="Was a person needed?",
)
