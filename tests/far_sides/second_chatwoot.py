"""A second Chatwoot, written from the documented fields alone and apart from the first: a web
application with a store of its own. It numbers from above, speaks in numbers where words are usual,
tells everything twice and out of order, and adds what no document names.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from tests.waiting import LIMIT_SECONDS, until

BOT_TOKEN, HOOK_SECRET, ACCOUNT_ID = secrets.token_hex(12), secrets.token_urlsafe(24), 904
WORDS = ("incoming", "outgoing")
PRIORITIES = {"urgent", "high", "medium", "low", None}
FIELDS = {
    "messages": {"content", "message_type", "private", "content_attributes"},
    "toggle_status": {"status", "snoozed_until"},
    "assignments": {"team_id", "assignee_id"},
    "toggle_priority": {"priority"},
    "labels": {"labels"},
    "custom_attributes": {"custom_attributes", "merge"},
}
CONTACT = {"id": 31, "name": "Ida", "type": "contact", "email": None, "blocked": False}
BOT = {"id": 5, "name": "Shop bot", "type": "agent_bot"}


class SecondChatwoot:
    """Conversations by display id, as rows; `hook` is where its account webhook goes."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self.hook = self.base_url = ""
        self.calls: list[tuple[str, dict[str, Any], int]] = []
        self.problems: list[str] = []
        self._message_id = 7_000_000
        self._chance = random.Random(2)
        self._late: list[dict[str, Any]] = []
        self._lock = threading.RLock()
        self._refused_once = False
        self.app = FastAPI()
        self.app.post("/api/v1/accounts/{account}/conversations/{display}/{verb}")(self.called)

    # What people and the shop's bot do there.

    def begin(self, display: int) -> None:
        self.rows[display] = {
            "status": "pending",
            "team": None,
            "assignee": None,
            "priority": None,
            "labels": ["vip"],
            "messages": [],
        }
        self._tell(self._conversation(display) | {"event": "conversation_created"})

    def writes(self, display: int, text: str) -> None:
        self._post(display, CONTACT, 0, text)

    def bot_writes(self, display: int, text: str) -> None:
        self._post(display, BOT, 1, text)

    def agent_writes(self, display: int, name: str, text: str, *, private: bool = False) -> None:
        self._post(display, {"id": 8, "name": name, "type": "user"}, 1, text, private=private)

    def agent_takes(self, display: int, name: str) -> None:
        row = self.rows[display]
        before, row["assignee"] = row["assignee"], {"id": 8, "name": name, "type": "user"}
        self._changed(display, "assignee_id", before and before["id"], 8)

    def macro_labels(self, display: int, *labels: str) -> None:
        row = self.rows[display]
        before, row["labels"] = list(row["labels"]), [*row["labels"], *labels]
        self._changed(display, "label_list", before, list(row["labels"]))

    def agent_resolves(self, display: int) -> None:
        self._set_status(display, "resolved")

    # What Baton calls.

    async def called(self, account: int, display: int, verb: str, request: Request) -> JSONResponse:
        raw = await request.body()
        with self._lock:
            try:
                status, answer = self._call(account, display, verb, raw, request)
            except (AssertionError, KeyError, ValueError) as error:
                self.problems.append(f"{verb}: {error!r}")
                status, answer = 400, {"message": repr(error)}
            self.calls.append((verb, json.loads(raw), status))
        return JSONResponse(answer, status)

    def _call(
        self, account: int, display: int, verb: str, raw: bytes, request: Request
    ) -> tuple[int, dict[str, Any]]:
        if request.headers.get("api_access_token") != BOT_TOKEN:
            return 401, {"error": "Invalid Access Token"}
        if account != ACCOUNT_ID or display not in self.rows or verb not in FIELDS:
            return 404, {"error": "Resource could not be found"}
        body, row = json.loads(raw), self.rows[display]
        assert set(body) <= FIELDS[verb], f"unknown fields {sorted(body)}"
        if not self._refused_once:
            self._refused_once = True
            return 502, {"error": "a proxy on the way"}
        if verb == "messages":
            assert body["message_type"] == "outgoing"
            assert isinstance(body["content"], str)
            attributes = body.get("content_attributes", {})
            name = self._post(
                *(display, BOT | {"id": 77, "name": "Baton"}, 1, body["content"]),
                private=bool(body.get("private")),
                content_attributes=attributes,
            )
            return 200, {"id": name, "status": "sent", "conversation_id": display}
        if verb == "toggle_status":
            assert body["status"] in {"open", "pending", "resolved", "snoozed"}
            self._set_status(display, body["status"])
            payload = {"success": True, "current_status": row["status"]}
            return 200, {"payload": payload | {"conversation_id": display}}
        if verb == "assignments":
            if "assignee_id" not in body:
                before, row["team"] = row["team"], body["team_id"]
                self._changed(display, "team_id", before, row["team"])
            return 200, {}
        if verb == "toggle_priority":
            assert body["priority"] in PRIORITIES
            before, row["priority"] = row["priority"], body["priority"]
            self._changed(display, "priority", before, row["priority"])
        elif verb == "labels":
            row["labels"] = list(body["labels"])
        return 200, {}

    # What it tells.

    def _post(
        self, display: int, sender: dict[str, Any], number: int, text: str, **more: Any
    ) -> int:
        with self._lock:
            self._message_id -= 13
            event = {
                "event": "message_created",
                "id": self._message_id,
                "content": text,
                "content_type": "text",
                "content_attributes": {},
                "additional_attributes": None,
                "created_at": datetime.now(UTC).isoformat(),
                "message_type": number if self._message_id % 2 else WORDS[number],
                "private": False,
                "source_id": secrets.token_hex(4),
                "sender": sender,
                "inbox": {"id": 12, "name": "API"},
                "account": {"id": ACCOUNT_ID, "name": "Second"},
                "attachments": [],
                "sentiment": {"none_of": ["your", "business"]},
            } | more
            self.rows[display]["messages"].append(event)
            self._tell(event | {"conversation": self._conversation(display)})
            return self._message_id

    def _set_status(self, display: int, status: str) -> None:
        with self._lock:
            before, self.rows[display]["status"] = self.rows[display]["status"], status
            if before == status:
                return
            rows = [
                {"waiting_since": {"previous_value": 1, "current_value": None}},
                {"status": {"previous_value": before, "current_value": status}},
            ]
            event = self._conversation(display) | {"changed_attributes": rows}
            self._tell(event | {"event": "conversation_updated"}, late=True)
            self._tell(event | {"event": "conversation_status_changed"})

    def _changed(self, display: int, name: str, before: Any, now: Any) -> None:
        rows = [{name: {"previous_value": before, "current_value": now}}]
        event = {"event": "conversation_updated", "changed_attributes": rows}
        self._tell(self._conversation(display) | event)

    def _conversation(self, display: int) -> dict[str, Any]:
        row = self.rows[display]
        return {
            "id": display,
            "inbox_id": 12,
            "status": row["status"],
            "channel": "Channel::Api",
            "can_reply": True,
            "contact_inbox": {"source_id": "s-1"},
            "messages": [
                {"id": one["id"], "message_type": 1, "content": one["content"]}
                for one in row["messages"][-1:]
            ],
            "labels": list(row["labels"]),
            "meta": {
                "sender": CONTACT,
                "assignee": row["assignee"],
                "assignee_type": "User" if row["assignee"] else None,
                "team": row["team"] and {"id": row["team"], "name": "any"},
                "hmac_verified": False,
            },
            "custom_attributes": {},
            "additional_attributes": {"browser": {"platform_name": "?"}},
            "priority": row["priority"],
            "snoozed_until": None,
            "unread_count": 3,
            "account_id": ACCOUNT_ID,
            "last_activity_at": int(time.time()),
            "created_at": int(time.time()),
            "updated_at": time.time(),
        }

    def _tell(self, event: dict[str, Any], *, late: bool = False) -> None:
        """Send an event in a while, twice, and with it what nobody subscribed to."""
        with self._lock:
            if not late:
                self._late.append(event)
            self._late.append(event)
            self._late.append({"event": "webwidget_triggered", "id": None, "account": {"id": 1}})

    def flush(self) -> None:
        """Send what waits, each step's events in an order of chance; gives when all were taken."""
        while True:
            with self._lock:
                told, self._late = self._late, []
            if not told:
                return
            self._chance.shuffle(told)
            for event in told:
                raw = json.dumps(event, ensure_ascii=False).encode()
                stamp = str(int(time.time()))
                digest = hmac.new(
                    HOOK_SECRET.encode(), stamp.encode() + b"." + raw, hashlib.sha256
                ).hexdigest()
                headers = {
                    "content-type": "application/json",
                    "X-Chatwoot-Timestamp": stamp,
                    "X-Chatwoot-Signature": f"sha256={digest}",
                    "X-Chatwoot-Delivery": secrets.token_hex(8),
                }
                answer = httpx.post(self.hook, content=raw, headers=headers, trust_env=False)
                if answer.status_code != 200:
                    self.problems.append(f"{event['event']}: {answer.status_code} {answer.text}")


@contextmanager
def second_chatwoot() -> Iterator[SecondChatwoot]:
    """Serve it until the block ends."""
    far = SecondChatwoot()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        far.base_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(far.app, log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started, "it listens", every=0.01)
            yield far
        finally:
            server.should_exit = True
            thread.join(LIMIT_SECONDS)
