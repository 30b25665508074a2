"""A connection to a hostile far side, while who hears and who sends are killed at any instant:
each event is done once, each handover is made, and no word to a customer is said twice.
"""

from __future__ import annotations

import json
import os
import queue
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from experiments.replay.client import RefusedError
from tests import postgres
from tests.far_sides import chatwoot
from tests.far_sides.chatwoot import FakeChatwoot, signed
from tests.far_sides.http_side import serving_side
from tests.running import Home, Place, Process, installation
from tests.service_in_process import ASKS, QUIET
from tests.waiting import LIMIT_SECONDS, until

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("BATON_TEST_KILLS", "3"))
PAUSE_SECONDS = 0.1
FAULTS = ("ok", "ok", "ok", "ok", "lost", "500", "429", "slow", "late")


class HostileEvents:
    """Events of the fake, told until they are acknowledged: late, twice, and in disorder."""

    def __init__(self, url: str, chance: random.Random) -> None:
        self.url = url
        self._chance = chance
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._held: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def add(self, event: dict[str, Any]) -> None:
        self._events.put(event)

    def end(self) -> None:
        """Tell the rest."""
        self._events.put(None)
        self._thread.join(LIMIT_SECONDS)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        is_over = False
        while not is_over or self._held:
            if not is_over and len(self._held) < 3:
                try:
                    event = self._events.get(timeout=PAUSE_SECONDS if self._held else None)
                except queue.Empty:
                    pass
                else:
                    is_over = event is None
                    self._held += [] if event is None else [event]
                    continue
            event = self._held.pop(self._chance.randrange(len(self._held)))
            for _ in range(2 if self._chance.random() < 0.2 else 1):
                self._tell(event)

    def _tell(self, event: dict[str, Any]) -> None:
        body = json.dumps(event).encode()

        def is_told() -> bool:
            try:
                headers = signed(body)
                answer = httpx.post(self.url, content=body, headers=headers, trust_env=False)
            except httpx.TransportError:
                return False
            return answer.status_code == 200

        until(is_told, "an event is acknowledged", every=0.05)


def connected(place: Place, service: Process, far: FakeChatwoot) -> str:
    config = {
        "base_url": far.url,
        "account_id": chatwoot.ACCOUNT,
        "api_access_token": chatwoot.TOKEN,
        "webhook_secret": chatwoot.SECRET,
    }
    asked = {"kind": "chatwoot", "name": "Helpdesk", "config": config}
    with place.caller("admin", service) as admin:
        return str(admin.post("/v1/connections", asked)["id"])


def replied(place: Place, service: Process, connection: str, number: int) -> bool:
    """A person answers in the handoff of a conversation, once."""
    name = f"chatwoot:{connection}:{chatwoot.ACCOUNT}:{number}"
    with place.caller("agent", service) as agent:
        try:
            handoffs = agent.get(f"/v1/conversations/{name}")["handoffs"]
            if not handoffs:
                return False
            body = {"text": f"I look into {number}", "id": f"reply-{number}"}
            agent.post(f"/v1/handoffs/{handoffs[0]['id']}/reply", body)
        except RefusedError:
            return False
    return True


def is_settled(home: Home) -> bool:
    looks = (
        "SELECT 1 FROM inbox_entry WHERE status = 'waiting'",
        "SELECT 1 FROM outbox_event WHERE NOT dispatched",
        "SELECT 1 FROM connection_delivery WHERE status IN ('waiting', 'sending')",
    )
    return not any(home.rows(sql) for sql in looks)


@pytest.mark.soak
@pytest.mark.parametrize("kind", postgres.ONE)
def test_after_kills_at_any_instant_nothing_is_lost_and_nothing_doubled(
    kind: str, tmp_path: Path
) -> None:
    chance = random.Random(int(os.environ.get("BATON_TEST_SEED", "15")))
    sending = random.Random(chance.random())
    with (
        postgres.store(kind, tmp_path) as url,
        installation(tmp_path, **({"database": url} if kind == "postgresql" else {})) as home,
        serving_side(FakeChatwoot(lambda _: sending.choice(FAULTS))) as far,
    ):
        service = home.serve()
        place = home.workspace("killed", service, mode="live")
        connection = connected(place, service, far)
        events = HostileEvents(f"{service.url}/connect/{connection}", chance)
        far.deliver = events.add
        command = [sys.executable, "-m", "tests.dispatching", str(tmp_path)]
        command += [url] if kind == "postgresql" else []
        dispatcher = subprocess.Popen(command, cwd=ROOT)
        try:
            for number in range(1, KILLS + 1):
                with far.lock:
                    far.customer(number, f"{QUIET}")
                    far.customer(number, f"{ASKS} {number}")
                until(lambda n=number: replied(place, service, connection, n), "a person answered")
                time.sleep(0.6 * chance.random())
                if number % 2:
                    dispatcher.kill()
                    dispatcher.wait(LIMIT_SECONDS)
                    dispatcher = subprocess.Popen(command, cwd=ROOT)
                else:
                    service.kill()
                    service.start().ready()
            far.behaviour = lambda _: "ok"
            until(lambda: is_settled(home), "all is done and sent")
            events.end()
            until(lambda: is_settled(home), "the echoes are done")
        finally:
            dispatcher.kill()
            dispatcher.wait(LIMIT_SECONDS)
        check(home, far, connection)


def check(home: Home, far: FakeChatwoot, connection: str) -> None:
    assert far.wrong == []
    refused = home.rows("SELECT error FROM inbox_entry WHERE status = 'failed'")
    assert refused == []
    uncertain = 0
    for number, there in far.conversations.items():
        name = f"chatwoot:{connection}:{chatwoot.ACCOUNT}:{number}"
        said = home.rows(
            "SELECT text FROM message WHERE conversation_id = ? AND author = 'user'", name
        )
        texts = sorted(row["text"] for row in said)
        assert texts == sorted([QUIET, f"{ASKS} {number}"]), "each message once"
        assert len(home.rows("SELECT id FROM decision WHERE conversation_id = ?", name)) == 2
        assert len(home.rows("SELECT id FROM handoff WHERE conversation_id = ?", name)) == 1
        assert there.status == "open", "the handover was made"
        notes = [m for m in there.messages if m["private"]]
        assert notes, "its packet came"
        marks = {m["content_attributes"]["baton"]["delivery"] for m in notes}
        assert len(marks) == 1, "and is known for one, however often it came"
        words = [m["content"] for m in there.messages if "look into" in m["content"]]
        assert len(words) <= 1, "no word to a customer is said twice"
        sent = home.rows(
            "SELECT status FROM connection_delivery WHERE conversation_id = ? AND call = 'say'",
            name,
        )
        (status,) = [row["status"] for row in sent]
        assert status in ("done", "uncertain")
        assert words or status == "uncertain", "what was not said is not called said"
        uncertain += status == "uncertain"
    print(f"{KILLS} kills: {uncertain} answers of agents are uncertain and were raised")
