"""One example of each kind of connector: how its far side signs, and what it sends, written from
its documented fields.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from service.connections.kinds.contract import DomainEvent, VerdictGiven
from tests.far_sides import chatwoot

Signed = tuple[bytes, dict[str, str]]


@dataclass(frozen=True)
class Example:
    """`sign(body, secret, at)` gives raw bytes and headers; `customer(id, text)` a message of the
    customer's in conversation 42, or what a person stated where a kind hears no messages; `echo`
    what comes back of a call to say something.
    """

    kind: str
    config: dict[str, Any]
    secret: str
    sign: Callable[[Any, str, float], Signed]
    customer: Callable[[str, str], dict[str, Any]]
    native: str
    is_signed: bool = True
    is_dated: bool = True
    stated: DomainEvent | None = None
    edit: Callable[[str, str], dict[str, Any]] | None = None
    agent: Callable[[str, str], dict[str, Any]] | None = None
    echo: Callable[[Any], dict[str, Any]] | None = None
    outbound: tuple[tuple[str, str], ...] = ()


def _hex(secret: str, signed: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(secret.encode(), signed, algorithm).hexdigest()


def _sign_chatwoot(body: Any, secret: str, at: float) -> Signed:
    raw = json.dumps(body).encode()
    return raw, chatwoot.signed(raw, secret, at)


def _chatwoot(name: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "event": "message_created",
        "id": int(name),
        "content": text,
        "content_type": "text",
        "content_attributes": {},
        "created_at": "2026-11-28T09:30:00Z",
        "message_type": "incoming",
        "private": False,
        "sender": {"id": 1, "name": "Cleo", "type": "contact"},
        "inbox": {"id": 2},
        "account": {"id": chatwoot.ACCOUNT},
        "conversation": {"id": 42, "inbox_id": 2, "status": "pending", "messages": []},
    } | more


def _chatwoot_agent(name: str, text: str) -> dict[str, Any]:
    return _chatwoot(name, text, message_type="outgoing", sender={"name": "Ana", "type": "user"})


def _chatwoot_echo(body: Any) -> dict[str, Any]:
    more = {"message_type": "outgoing", "sender": {"type": "agent_bot"}}
    attributes = body["content_attributes"]
    return _chatwoot("77", body["content"], content_attributes=attributes, **more)


INTERCOM = {
    "signature": {
        "scheme": "hmac",
        "header": "X-Hub-Signature",
        "algorithm": "sha1",
        "prefix": "sha1=",
    },
    "conversation": "data.item.id",
    "key": "id",
    "occurred_at": "created_at",
    "rules": [
        {
            "when": {"topic": "conversation.user.created"},
            "event": "message",
            "id": "data.item.source.id",
            "text": "data.item.source.body",
            "format": "html",
        },
        {
            "when": {"topic": "conversation.user.replied"},
            "event": "message",
            "id": "data.item.conversation_parts.conversation_parts.-1.id",
            "text": "data.item.conversation_parts.conversation_parts.-1.body",
            "format": "html",
        },
        {
            "when": {"topic": "conversation.admin.replied"},
            "event": "message",
            "author": "agent",
            "id": "data.item.conversation_parts.conversation_parts.-1.id",
            "text": "data.item.conversation_parts.conversation_parts.-1.body",
            "agent": "data.item.conversation_parts.conversation_parts.-1.author.name",
            "format": "html",
        },
        {
            "when": {"topic": "conversation.admin.assigned"},
            "event": "joined",
            "agent": "data.item.assignee.name",
        },
        {"when": {"topic": "conversation.admin.closed"}, "event": "ended", "by": "agent"},
        {
            "when": {"topic": "conversation.rating.added"},
            "event": "rating",
            "rating": "data.item.conversation_rating.rating",
        },
        {
            "when": {
                "topic": "conversation_part.tag.created",
                "data.item.tags.tags.-1.name": "baton-needed",
            },
            "event": "verdict",
            "verdict": "needed",
        },
    ],
    "hand_over": [
        {
            "name": "status",
            "path": "/conversations/{conversation}/parts",
            "body": {
                "message_type": "assignment",
                "type": "team",
                "admin_id": "5",
                "assignee_id": "88",
            },
        },
        {
            "name": "note",
            "path": "/conversations/{conversation}/reply",
            "body": {
                "message_type": "note",
                "type": "admin",
                "admin_id": "5",
                "body": "{note} [{delivery}]",
            },
            "repeat": "marked",
        },
    ],
    "say": [
        {
            "name": "say",
            "path": "/conversations/{conversation}/reply",
            "body": {
                "message_type": "comment",
                "type": "admin",
                "admin_id": "5",
                "body": "{text}",
            },
        }
    ],
}
"""Intercom as a mapping of the generic hook."""


def _sign_intercom(body: Any, secret: str, at: float) -> Signed:
    raw = json.dumps(body).encode()
    signature = f"sha1={_hex(secret, raw, 'sha1')}"
    return raw, {"X-Hub-Signature": signature, "Content-Type": "application/json"}


def _intercom(topic: str, name: str, text: str, author: str) -> dict[str, Any]:
    part = {"id": name, "body": text, "author": {"type": author, "name": "Ana"}}
    return {
        "type": "notification_event",
        "id": f"notif_{topic}_{name}",
        "topic": topic,
        "app_id": "abc",
        "created_at": 1_764_322_200,
        "delivery_attempts": 1,
        "data": {"item": {"id": "42", "conversation_parts": {"conversation_parts": [part]}}},
    }


STANDARD = {
    "conversation": "data.conversation",
    "key": "data.id",
    "rules": [
        {
            "when": {"type": "message"},
            "event": "message",
            "id": "data.id",
            "text": "data.text",
        },
        {"when": {"type": "edit"}, "event": "edit", "id": "data.id", "text": "data.text"},
        {"when": {"type": "echo"}, "event": "echo", "delivery": "data.delivery"},
        {
            "when": {"type": "agent"},
            "event": "message",
            "author": "agent",
            "id": "data.id",
            "text": "data.text",
            "agent": "data.agent",
        },
    ],
    "say": [
        {
            "name": "say",
            "path": "/say",
            "body": {"to": "{conversation}", "text": "{text}", "delivery": "{delivery}"},
        }
    ],
    "hand_over": [
        {"name": "status", "path": "/open/{conversation}", "body": {"priority": "{priority}"}}
    ],
}


def _sign_standard(body: Any, secret: str, at: float) -> Signed:
    raw, stamp = json.dumps(body).encode(), str(int(at))
    digest = hmac.new(secret.encode(), b"msg_1." + stamp.encode() + b"." + raw, hashlib.sha256)
    signature = "v1," + base64.b64encode(digest.digest()).decode()
    return raw, {
        "webhook-id": "msg_1",
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,AAAA {signature}",
    }


def _standard(kind: str) -> Callable[[str, str], dict[str, Any]]:
    def made(name: str, text: str) -> dict[str, Any]:
        return {
            "type": kind,
            "data": {"id": name, "conversation": "42", "text": text, "agent": "Ana"},
        }

    return made


def _sign_slack(body: Any, secret: str, at: float) -> Signed:
    raw, stamp = urlencode({"payload": json.dumps(body)}).encode(), str(int(at))
    signature = "v0=" + _hex(secret, b"v0:" + stamp.encode() + b":" + raw)
    return raw, {
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": signature,
        "Content-Type": "application/x-www-form-urlencoded",
    }


def slack_button(name: str, text: str, conversation: str = "42") -> dict[str, Any]:
    return {
        "type": "block_actions",
        "user": {"id": "U1", "name": "ana"},
        "container": {"type": "message", "message_ts": "1764322200.1"},
        "actions": [
            {
                "action_id": "baton_not_needed" if text == "not needed" else "baton_needed",
                "value": conversation,
                "action_ts": f"{1_764_322_300 + int(name)}.5",
                "type": "button",
            }
        ],
    }


def _sign_token(name: str) -> Callable[[Any, str, float], Signed]:
    def sign(body: Any, secret: str, at: float) -> Signed:
        return json.dumps(body).encode(), {name: secret, "Content-Type": "application/json"}

    return sign


def sunshine_message(name: str, text: str, **more: Any) -> dict[str, Any]:
    message = {
        "id": name,
        "received": datetime.now(UTC).isoformat(),
        "author": {"type": "user", "userId": "u1"},
        "content": {"type": "text", "text": text},
        "source": {"type": "web"},
    } | more.pop("message", {})
    conversation = {
        "id": "42",
        "activeSwitchboardIntegration": {"id": "s1", "name": more.pop("active", "bot")},
    }
    return {
        "app": {"id": "app1"},
        "webhook": {"id": "w1", "version": "v2"},
        "events": [
            {
                "id": f"event-{name}-{more.get('type', '')}",
                "type": "conversation:message",
                "createdAt": datetime.now(UTC).isoformat(),
                "payload": {"conversation": conversation, "message": message},
            }
            | more
        ],
    }


def _sunshine_agent(name: str, text: str) -> dict[str, Any]:
    author = {"type": "business", "displayName": "Ana"}
    return sunshine_message(name, text, message={"author": author}, active="agentWorkspace")


def _sunshine_echo(body: Any) -> dict[str, Any]:
    return sunshine_message("77", "x", message=body | {"content": body["content"]})


def rasa_call(name: str, text: str, action: str = "action_baton_score") -> dict[str, Any]:
    user = {
        "event": "user",
        "text": text,
        "timestamp": 1_764_322_200.5,
        "message_id": name,
        "parse_data": {"intent": {"name": "ask_order", "confidence": 0.3}},
        "input_channel": "rest",
        "metadata": {},
    }
    return {
        "next_action": action,
        "sender_id": "42",
        "tracker": {
            "sender_id": "42",
            "slots": {},
            "latest_message": {"text": text, "message_id": name, "intent": {"name": "ask_order"}},
            "events": [{"event": "action", "name": "action_session_start"}, user],
            "paused": False,
        },
        "domain_digest": "x",
        "version": "3",
    }


def dialogflow_call(name: str, text: str) -> dict[str, Any]:
    return {
        "detectIntentResponseId": name,
        "text": text,
        "languageCode": "en",
        "fulfillmentInfo": {"tag": "baton"},
        "intentInfo": {"displayName": "ask.order", "confidence": 0.8, "parameters": {}},
        "sessionInfo": {"session": "projects/p/locations/l/agents/a/sessions/42", "parameters": {}},
        "sentimentAnalysisResult": {"score": -0.2, "magnitude": 0.2},
    }


EXAMPLES = {
    "chatwoot": Example(
        "chatwoot",
        {"base_url": "http://127.0.0.1:1", "account_id": chatwoot.ACCOUNT, "teams": {"support": 4}},
        "hook-secret-1",
        _sign_chatwoot,
        _chatwoot,
        f"{chatwoot.ACCOUNT}:42",
        edit=lambda name, text: _chatwoot(name, text, event="message_updated", updated_at=text),
        agent=_chatwoot_agent,
        echo=_chatwoot_echo,
        outbound=(("api_access_token", "t"),),
    ),
    "intercom": Example(
        "hook",
        {"base_url": "http://127.0.0.1:1"} | INTERCOM,
        "client-secret",
        _sign_intercom,
        lambda name, text: _intercom("conversation.user.replied", name, text, "user"),
        "42",
        is_dated=False,
        agent=lambda name, text: _intercom("conversation.admin.replied", name, text, "admin"),
        outbound=(("token", "t"),),
    ),
    "standard": Example(
        "hook",
        {"base_url": "http://127.0.0.1:1"} | STANDARD,
        "a plain secret, no base64",
        _sign_standard,
        _standard("message"),
        "42",
        edit=lambda name, text: _standard("edit")(name, text) | {"of": text},
        agent=_standard("agent"),
        echo=lambda body: {
            "type": "echo",
            "data": {"id": "9", "conversation": "42", "delivery": body["delivery"]},
        },
    ),
    "slack": Example(
        "slack",
        {"channel": "C1"},
        "signing-secret",
        _sign_slack,
        slack_button,
        "42",
        stated=VerdictGiven("needed", "button", "ana"),
        outbound=(("bot_token", "xoxb-1"),),
    ),
    "sunshine": Example(
        "sunshine",
        {"app_id": "app1", "bot": "bot", "base_url": "http://127.0.0.1:1"},
        "shared-secret",
        _sign_token("X-API-Key"),
        sunshine_message,
        "42",
        is_signed=False,
        is_dated=False,
        agent=_sunshine_agent,
        echo=_sunshine_echo,
        outbound=(("key_id", "k"), ("key_secret", "s")),
    ),
    "rasa": Example(
        "rasa",
        {},
        "rasa-secret",
        _sign_token("X-Baton-Secret"),
        rasa_call,
        "42",
        is_signed=False,
        is_dated=False,
    ),
    "dialogflow": Example(
        "dialogflow",
        {},
        "df-secret",
        _sign_token("X-Baton-Secret"),
        dialogflow_call,
        "42",
        is_signed=False,
        is_dated=False,
    ),
}


def now() -> float:
    return time.time()
