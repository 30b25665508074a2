"""Rasa's action server (`rasa-sdk`) with the actions of Baton's page, called as Rasa calls it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.connect.environments import ROOT, environment
from tests.connected import dispatching
from tests.far_sides.http_side import Answer, HttpSide, serving_side
from tests.service_in_process import ASKS, QUIET, InProcess
from tests.waiting import LIMIT_SECONDS, until

PAGE = ROOT / "docs" / "guides" / "connect" / "rasa.md"
SENDER = "customer-1"


class Rasa(HttpSide):
    """Rasa itself, as far as Baton calls it; keeps one conversation's tracker."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.slots: dict[str, Any] = {"baton_action": None}
        self.paused = False

    def answer(self, method: str, path: str, _: dict[str, str], body: bytes) -> Answer:
        assert (method, path) == ("POST", f"/conversations/{SENDER}/tracker/events")
        assert json.loads(body) == {"event": "resume"}
        self.paused = False
        return 200, {}

    def hears(self, text: str) -> dict[str, Any]:
        """The customer writes; gives the latest message."""
        parsed = {"intent": {"name": "ask", "confidence": 0.91}, "entities": []}
        heard = parsed | {"text": text, "message_id": uuid.uuid4().hex, "metadata": {}}
        self.events.append({"event": "user", "parse_data": parsed, "timestamp": None, **heard})
        return heard

    def runs(self, server: httpx.Client, action: str, heard: dict[str, Any]) -> list[str]:
        """Run an action at the action server; gives what the bot says."""
        tracker = {
            "sender_id": SENDER,
            "slots": self.slots,
            "latest_message": heard,
            "latest_event_time": 1.0,
            "followup_action": None,
            "paused": self.paused,
            "events": self.events,
            "latest_input_channel": "rest",
            "active_loop": {},
            "latest_action_name": "action_listen",
        }
        body = {"next_action": action, "sender_id": SENDER, "tracker": tracker}
        answer = server.post("/webhook", json=body | {"domain": {}, "version": "3.6.21"})
        assert answer.status_code == 200, answer.text
        for event in answer.json()["events"]:
            if event["event"] == "slot":
                self.slots[event["name"]] = event["value"]
            self.paused = self.paused or event["event"] == "pause"
        words = [one["text"] for one in answer.json()["responses"]]
        self.events += [{"event": "bot", "text": text, "timestamp": None} for text in words]
        return words


@contextmanager
def action_server(inbound: str, secret: str) -> Iterator[httpx.Client]:
    """`python -m rasa_sdk` with the page's actions."""
    python = environment("rasa")
    (actions,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "actions.py").write_text(actions)
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(python), "-m", "rasa_sdk", "--actions", "actions", "-p", str(port)],
                cwd=folder,
                env={
                    "PATH": os.environ["PATH"],
                    "INBOUND_URL": inbound,
                    "INBOUND_SECRET": secret,
                },
                stdout=log,
                stderr=log,
            )
        url = f"http://127.0.0.1:{port}"
        try:
            with httpx.Client(base_url=url, trust_env=False, timeout=LIMIT_SECONDS) as client:

                def is_up() -> bool:
                    assert process.poll() is None, (Path(folder) / "log").read_text()[-2000:]
                    try:
                        return client.get("/health").status_code == 200
                    except httpx.TransportError:
                        return False

                until(is_up, "the action server is up")
                yield client
        finally:
            process.terminate()
            process.wait(LIMIT_SECONDS)


def rasa(service: InProcess) -> str:
    place = service.workspace()
    with serving_side(Rasa()) as far:
        config = {"base_url": far.url}
        asked = {"kind": "rasa", "name": "Rasa", "config": config}
        made = place.admin.posted("/v1/connections", asked)
        inbound = f"{service.url}/connect/{made['id']}"
        with action_server(inbound, made["secret"]) as server, dispatching(service):
            listed = {one["name"] for one in server.get("/actions").json()}
            assert listed >= {"action_baton_score", "action_baton_handoff"}
            far.runs(server, "action_baton_score", far.hears(QUIET))
            assert far.slots["baton_action"] == "continue"
            far.events.append({"event": "bot", "text": "From ten to five.", "timestamp": None})
            heard = far.hears(ASKS)
            far.runs(server, "action_baton_score", heard)
            assert far.slots["baton_action"] == "escalate"
            far.runs(server, "action_baton_handoff", heard)
            assert far.paused, "the bot is silent"
            (handoff,) = place.agent.got("/v1/handoffs")["handoffs"]
            found = place.agent.got(f"/v1/conversations/{handoff['conversation_id']}")
            authors = [m["author"] for m in found["messages"] if m["author"] != "system"]
            assert authors == ["user", "bot", "user"]
            place.agent.posted(f"/v1/handoffs/{handoff['id']}/return")
            until(lambda: not far.paused, "the bot goes on", every=0.05)
            far.runs(server, "action_baton_score", far.hears("do you ship to norway"))
            assert far.slots["baton_action"] == "continue"
        assert far.wrong == []
    return "scores, hands over, pauses, resumes"
