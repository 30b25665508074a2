"""A strict fake of Chatwoot, written from its documented fields: conversations, the calls of an
agent bot's token, and account webhooks, signed.

What it is called to do it does as Chatwoot would, and tells of it by events, our own calls among
them. Events are handed to `deliver`, in any order and as often as a test wants.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.far_sides.http_side import Answer, Behaviour, HttpSide

ACCOUNT, TOKEN, SECRET = 7, "bot-token-1", "hook-secret-1"
CALL = re.compile(rf"/api/v1/accounts/{ACCOUNT}/conversations/(\d+)/(\w+)")
PRIORITIES = ("urgent", "high", "medium", "low", None)
FIELDS = {
    "messages": {"content", "message_type", "private", "content_attributes"},
    "toggle_status": {"status"},
    "assignments": {"team_id"},
    "toggle_priority": {"priority"},
    "labels": {"labels"},
    "custom_attributes": {"custom_attributes", "merge"},
}


@dataclass
class FakeConversation:
    id: int
    status: str = "pending"
    labels: list[str] = field(default_factory=list)
    team: int | None = None
    assignee: str | None = None
    priority: str | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)


def signed(body: bytes, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    timestamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return {
        "Content-Type": "application/json",
        "X-Chatwoot-Timestamp": timestamp,
        "X-Chatwoot-Signature": f"sha256={digest.hexdigest()}",
        "X-Chatwoot-Delivery": "neither signed nor stable",
    }


class FakeChatwoot(HttpSide):
    def __init__(self, behaviour: Behaviour = lambda _: "ok") -> None:
        super().__init__(behaviour)
        self.conversations: dict[int, FakeConversation] = {}
        self.deliver: Callable[[dict[str, Any]], None] = lambda _: None
        self._ids = itertools.count(1001)
        self._clock = itertools.count()

    # What people do.

    def conversation(self, number: int) -> FakeConversation:
        return self.conversations.setdefault(number, FakeConversation(number))

    def customer(self, number: int, text: str | None, **more: Any) -> dict[str, Any]:
        one = self.conversation(number)
        if one.status == "resolved":
            self._status(one, "pending")
        return self._message(one, text, "incoming", {"type": "contact", "name": "Cleo"}, **more)

    def bot(self, number: int, text: str) -> dict[str, Any]:
        sender = {"id": 3, "type": "agent_bot", "name": "Helper"}
        return self._message(self.conversation(number), text, "outgoing", sender)

    def person(self, number: int, text: str, name: str = "Ana", **more: Any) -> dict[str, Any]:
        sender = {"id": 9, "type": "user", "name": name}
        return self._message(self.conversation(number), text, "outgoing", sender, **more)

    def note(self, number: int, text: str, name: str = "Ana") -> dict[str, Any]:
        return self.person(number, text, name, private=True)

    def label(self, number: int, *labels: str) -> None:
        one = self.conversation(number)
        before, one.labels = one.labels, list(labels)
        self._updated(one, {"label_list": (before, one.labels)})

    def assign(self, number: int, name: str | None) -> None:
        one = self.conversation(number)
        before, one.assignee = one.assignee, name
        self._updated(one, {"assignee_id": (before and 9, name and 9)})

    def set_status(self, number: int, status: str) -> None:
        self._status(self.conversation(number), status)

    # What our calls do.

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        assert method == "POST"
        if headers.get("api_access_token") != TOKEN:
            return 401, {"error": "Invalid Access Token"}
        found = CALL.fullmatch(path)
        assert found is not None, path
        one, call, given = self.conversations[int(found[1])], found[2], json.loads(body)
        assert set(given) <= FIELDS[call], given
        one.calls.append(call)
        if call == "messages":
            assert given["message_type"] == "outgoing"
            assert given["content"].strip()
            sender = {"id": 3, "type": "agent_bot", "name": "Baton"}
            attributes = given["content_attributes"]
            sent = self._message(
                one,
                given["content"],
                "outgoing",
                sender,
                private=given["private"],
                content_attributes=attributes,
            )
            return 200, {"id": sent["id"]}
        if call == "toggle_status":
            assert given["status"] in ("open", "pending", "resolved", "snoozed")
            self._status(one, given["status"])
        elif call == "assignments":
            one.team = int(given["team_id"])
        elif call == "toggle_priority":
            assert given["priority"] in PRIORITIES
            one.priority = given["priority"]
        return 200, {"payload": {"success": True, "current_status": one.status}}

    # What it tells.

    def _message(
        self, one: FakeConversation, text: str | None, kind: str, sender: Any, **more: Any
    ) -> dict[str, Any]:
        event = {
            "event": "message_created",
            "id": next(self._ids),
            "content": text,
            "content_type": "text",
            "content_attributes": {},
            "additional_attributes": {},
            "created_at": self._now(),
            "message_type": kind,
            "private": False,
            "source_id": None,
            "sender": sender,
            "inbox": {"id": 2, "name": "Web"},
            "account": {"id": ACCOUNT, "name": "Shop"},
            "conversation": self._json(one),
            "a_field_of_next_year": {"nested": [1, None, "x"]},
        } | more
        one.messages.append(event)
        self.deliver(event)
        return event

    def _status(self, one: FakeConversation, status: str) -> None:
        before, one.status = one.status, status
        if before != status:
            changed = [{"status": {"previous_value": before, "current_value": status}}]
            event = {"event": "conversation_status_changed", "changed_attributes": changed}
            self.deliver(event | self._json(one))

    def _updated(self, one: FakeConversation, changed: dict[str, tuple[Any, Any]]) -> None:
        rows = [
            {name: {"previous_value": before, "current_value": now}}
            for name, (before, now) in changed.items()
        ]
        event = {"event": "conversation_updated", "changed_attributes": rows}
        self.deliver(event | self._json(one))

    def _json(self, one: FakeConversation) -> dict[str, Any]:
        assignee = one.assignee and {"id": 9, "name": one.assignee}
        return {
            "id": one.id,
            "inbox_id": 2,
            "account_id": ACCOUNT,
            "status": one.status,
            "labels": list(one.labels),
            "meta": {"sender": {"name": "Cleo"}, "assignee": assignee, "assignee_type": "User"},
            "custom_attributes": {},
            "priority": one.priority,
            "updated_at": self._now(),
        }

    def _now(self) -> float:
        """A time that no other event has."""
        return time.time() + 1e-4 * (next(self._clock) % 1000) / 1000
