"""A whole API in this process: create_app under uvicorn in a thread, on real SQLite and sockets."""

from __future__ import annotations

import itertools
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn
from sqlalchemy import func, select

from service.operations.bootstrap import prepare
from service.runtime.settings import Settings
from service.store.database.transactions import Store, table
from service.store.tables import Conversation, Decision, Handoff, LedgerRow, MessageRow, Outcome
from service.web.app import create_app
from service.web.request_context import AppState
from service.web.serve.http_server import SWITCH_SECONDS
from tests import migrated
from tests.waiting import LIMIT_SECONDS, until

T = TypeVar("T")
ROLES = ("bot", "agent", "engineer", "admin")
OTHERS = (
    "do you ship to norway",
    "the blue one comes in which sizes",
    "thanks that helps",
    "can i pay by card in the shop",
    "where is your nearest store",
    "my parcel weighs two kilos",
    "which colour goes with brown shoes",
    "please note my new street",
    "is the lamp bright enough for reading",
    "good morning",
)
"""Quiet messages of which none repeats another."""
QUIET = "what are your opening hours on sunday"
ASKS = "I want to talk to a human please"
_CONTENT = (Conversation, MessageRow, Decision, Handoff, Outcome, LedgerRow)


class Caller(httpx.Client):
    """A client with one key; `posted` and `got` insist on success."""

    def posted(self, path: str, body: Any = None) -> Any:
        return _body(self.post(path, json=body))

    def got(self, path: str) -> Any:
        return _body(self.get(path))

    def score(self, conversation: str, message: str, text: str, **more: Any) -> httpx.Response:
        author = more.pop("author", "user")
        body = {"conversation_id": conversation, **more}
        body["message"] = {"id": message, "text": text, "author": author}
        return self.post("/v1/score", json=body)

    def decided(self, conversation: str, message: str, text: str, **more: Any) -> Any:
        return _body(self.score(conversation, message, text, **more))


class Place:
    """A workspace with one caller of each role."""

    def __init__(self, service: InProcess, name: str, keys: dict[str, str]) -> None:
        self.service, self.name, self.keys = service, name, keys
        self.bot, self.agent, self.engineer, self.admin = (
            service.caller(keys[role]) for role in ROLES
        )

    def named_agent(self, name: str) -> Caller:
        """Another agent of this workspace, under a name of their own."""
        made = self.admin.posted("/v1/keys", {"role": "agent", "name": name})
        return self.service.caller(made["key"])

    def escalated(self, conversation: str = "c", text: str = ASKS) -> str:
        """Open a handoff; its id."""
        decided = self.bot.decided(conversation, f"{conversation}-asks", text)
        assert decided["action"] == "escalate"
        found: str = decided["handoff"]["id"]
        return found

    def policy(self, **changes: Any) -> dict[str, Any]:
        """Change parts of the policy in force."""
        policy = self.engineer.got("/v1/policy") | changes
        found: dict[str, Any] = _body(self.engineer.put("/v1/policy", json=policy))
        return found

    def offering(self) -> None:
        """A policy whose offers start at any probability, and whose model never escalates."""
        self.policy(
            costs={"unneeded": 1e6, "missed": 1e6, "ask": 0.0},
            accepting={"needed": 1.0, "unneeded": 0.0},
            offers={"share_max": 1.0, "first_message": True},
        )

    def content(self) -> dict[str, int]:
        """How many rows of each kind this workspace has: what a refused request must not change."""
        with self.service.baton.store.read() as connection:
            return {
                model.__tablename__: connection.execute(
                    select(func.count())
                    .select_from(table(model))
                    .where(table(model).c.workspace == self.name)
                ).scalar_one()
                for model in _CONTENT
            }

    def ledger(self, kind: str = "outcome") -> list[dict[str, Any]]:
        """The bodies of the ledger's entries of a kind, in order."""
        rows = table(LedgerRow)
        with self.service.baton.store.read() as connection:
            found = connection.execute(
                select(rows.c.body)
                .where(rows.c.workspace == self.name, rows.c.kind == kind)
                .order_by(rows.c.position)
            )
            return list(found.scalars())


class InProcess:
    """A running service; `baton` are its parts, for looking past the API."""

    def __init__(self, app: Any, url: str, keys: dict[str, str]) -> None:
        self.app, self.url, self.keys = app, url, keys
        self._callers: list[Caller] = []
        self._names = itertools.count(1)

    @property
    def baton(self) -> AppState:
        found: AppState = self.app.state.baton
        return found

    def caller(self, key: str | None = None) -> Caller:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        made = Caller(
            base_url=self.url, headers=headers, trust_env=False, verify=False, timeout=LIMIT_SECONDS
        )
        self._callers.append(made)
        return made

    def default(self) -> Place:
        return Place(self, "default", self.keys)

    def workspace(self, mode: str = "live", recipe: str = "bayes-4", name: str = "") -> Place:
        name = name or f"w{next(self._names)}"
        admin = self.caller(self.keys["admin"])
        made = admin.posted("/v1/workspaces", {"id": name, "mode": mode, "recipe": recipe})
        return Place(self, name, made["keys"])

    def close(self) -> None:
        for caller in self._callers:
            caller.close()


@contextmanager
def serving(home: Path, **settings: Any) -> Iterator[InProcess]:
    """Serve a fresh installation in `home` until the block ends; patient on a busy machine."""
    given = Settings(home=home, **({"wait_seconds": LIMIT_SECONDS} | settings))
    if "database" not in settings:
        migrated.begin(home)
    store = Store(given.database_url)
    keys = prepare(given, store)
    store.close()
    app = create_app(given)
    sys.setswitchinterval(SWITCH_SECONDS)  # as `serve` does
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(256)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        config = uvicorn.Config(app, loop="uvloop", http="httptools", ws="none", log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        service = InProcess(app, url, keys)
        try:
            until(lambda: server.started or not thread.is_alive(), "the service starts", every=0.01)
            assert thread.is_alive(), "the service ended before it had started"
            yield service
        finally:
            server.should_exit = True
            thread.join(LIMIT_SECONDS)
            service.close()
            assert not thread.is_alive(), "the service did not end"


def at_once(count: int, do: Callable[[int], T]) -> list[T]:
    """Do something `count` times, all starting together."""
    ready = threading.Barrier(count)

    def one(number: int) -> T:
        ready.wait(LIMIT_SECONDS)
        return do(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def in_one_batch(
    service: InProcess, asks: Sequence[Callable[[], httpx.Response]]
) -> list[httpx.Response]:
    """Send requests so that the engine takes all of them as one batch, in this order."""
    engine = service.baton.engine
    idle = engine._live_models._idle
    assert idle is not None
    engine._batch_scheduled = True  # so nobody schedules a batch until all wait
    with ThreadPoolExecutor(len(asks)) as pool:
        sent = []
        for number, ask in enumerate(asks, 1):
            sent.append(pool.submit(ask))
            until(
                lambda number=number: (
                    len(engine._queue) >= number - sum(one.done() for one in sent)
                ),
                "the request is in the queue",
            )
        idle.get_loop().call_soon_threadsafe(engine._run_batch)
        return [one.result(timeout=LIMIT_SECONDS) for one in sent]


def same(answers: Sequence[httpx.Response]) -> Any:
    """The one answer that all of them are."""
    assert {one.status_code for one in answers} == {200}, [one.text for one in answers]
    bodies = [one.json() for one in answers]
    assert all(body == bodies[0] for body in bodies), bodies
    return bodies[0]


def refusal(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, str]:
    """The error of an answer, in the one shape that errors have."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}, body
    error: dict[str, str] = body["error"]
    assert {"code", "message"} <= set(error) <= {"code", "message", "field", "hint"}, error
    assert all(isinstance(part, str) and part for part in error.values()), error
    if code is not None:
        assert error["code"] == code, error
    return error


def _body(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, (answer.status_code, answer.text)
    return json.loads(answer.content)
