"""Strict fakes of Slack, Sunshine Conversations and Intercom, as far as Baton calls them."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from tests.far_sides.http_side import Answer, Behaviour, HttpSide


class FakeSlack(HttpSide):
    """`chat.postMessage`: it answers 200 whatever was wrong, and says so in the body."""

    def __init__(self, behaviour: Behaviour = lambda _: "ok") -> None:
        super().__init__(behaviour)
        self.posted: list[dict[str, Any]] = []

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        assert (method, path) == ("POST", "/api/chat.postMessage")
        assert headers["content-type"] == "application/json; charset=utf-8"
        if headers.get("authorization") != "Bearer xoxb-1":
            return 200, {"ok": False, "error": "invalid_auth"}
        given = json.loads(body)
        if given["channel"] != "C1":
            return 200, {"ok": False, "error": "channel_not_found"}
        for block in given["blocks"]:
            assert block["type"] in ("section", "actions")
            if block["type"] == "section":
                assert 0 < len(block["text"]["text"]) <= 3000
            for element in block.get("elements", ()):
                assert element["type"] == "button"
                assert len(element["value"]) <= 2000
        assert set(given["metadata"]) == {"event_type", "event_payload"}
        self.posted.append(given)
        return 200, {"ok": True, "ts": "1764322200.1"}


class FakeSunshine(HttpSide):
    """The switchboard of one app: who has each conversation, and what business said in it."""

    PATH = re.compile(r"/v2/apps/app1/conversations/([^/]+)/(passControl|messages)")

    def __init__(self, behaviour: Behaviour = lambda _: "ok") -> None:
        super().__init__(behaviour)
        self.active: dict[str, str] = {}
        self.passed: list[dict[str, Any]] = []
        self.said: list[dict[str, Any]] = []

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        pair = base64.b64decode(headers["authorization"].removeprefix("Basic "))
        if pair != b"k:s":
            return 401, {}
        found = self.PATH.fullmatch(path)
        assert found is not None, path
        assert method == "POST"
        given = json.loads(body)
        if found[2] == "passControl":
            assert set(given) <= {"switchboardIntegration", "reason", "metadata"}
            flat = given.get("metadata", {})
            assert len(json.dumps(flat)) <= 4096
            assert all(isinstance(value, str) for value in flat.values())
            self.active[found[1]] = given["switchboardIntegration"]
            self.passed.append(given)
        else:
            assert set(given) == {"author", "content", "metadata"}
            assert given["author"]["type"] == "business"
            self.said.append(given)
        return 200, {}


class FakeIntercom(HttpSide):
    """Parts and replies of conversations."""

    PATH = re.compile(r"/conversations/(\d+)/(parts|reply)")

    def __init__(self, behaviour: Behaviour = lambda _: "ok") -> None:
        super().__init__(behaviour)
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        assert (method, headers["authorization"]) == ("POST", "Bearer t")
        found = self.PATH.fullmatch(path)
        assert found is not None, path
        given = json.loads(body)
        if found[2] == "parts":
            assert given["message_type"] in ("assignment", "close", "snoozed", "open")
            assert {"type", "admin_id", "assignee_id"} <= set(given)
        else:
            assert given["message_type"] in ("note", "comment")
            assert given["body"]
        self.calls.append((found[2], given))
        return 200, {}
