"""Real processes of Baton for tests: `serve` and `jobs` on one database, stopped or killed by pid.

    with installation(tmp_path) as home:
        first, second = home.serve(), home.serve()
        place = home.workspace("one")
        with place.caller("bot", first) as bot: ...

Every process is ended with the block, whatever happened in it.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
from psycopg.adapt import Loader
from psycopg.rows import dict_row

from experiments.replay.client import BatonClient, path_of
from learning.conversation.state import BotReport, Message
from learning.ledger import checkpoint
from learning.ledger.model_state import Entry, Exclusions, ModelState, Turn, replay_entries
from tests.fork_server import Forked, command, fork_server
from tests.mlflow_server import free_port
from tests.waiting import LIMIT_SECONDS, until

ROOT = Path(__file__).parents[1]
RECIPE = "bayes-4"
NOWHERE = "http://127.0.0.1:9"
"""No MLflow there."""


class Client(BatonClient):
    """One key's caller: what is not answered is asked again, what is refused raises."""

    def put(self, path: str, body: Any) -> dict[str, Any]:
        return self._request("PUT", path, body)

    def delete(self, path: str) -> dict[str, Any]:
        return self._request("DELETE", path, None)

    def score(self, conversation: str, message: str, text: str, **more: Any) -> dict[str, Any]:
        said = {"id": message, "text": text}
        return self.post("/v1/score", {"conversation_id": conversation, "message": said} | more)

    def outcome(self, conversation: str, verdict: str, **more: Any) -> dict[str, Any]:
        place = path_of("conversations", conversation, "outcome")
        return self.post(place, {"verdict": verdict} | more)

    def scores(self, conversations: Sequence[str], text: str) -> list[dict[str, Any]]:
        """One message of this text in each of these conversations, in one request."""
        items = [
            {"conversation_id": name, "message": {"id": "m1", "text": text}}
            for name in conversations
        ]
        return list(self.post("/v1/score/batch", {"items": items})["results"])

    @property
    def standing(self) -> dict[str, Any]:
        return self.get("/v1/standing")


@dataclass(slots=True)
class Process:
    """One `python -m service serve` or `jobs`."""

    command: Sequence[str]
    environ: dict[str, str]
    log: Path
    url: str = ""
    process: subprocess.Popen[bytes] | Forked | None = None

    def start(self) -> Self:
        if len(self.command) == 1:
            self.process = fork_server().start(self.command, self.environ, self.log, self.log)
            return self
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", *self.command],
                cwd=ROOT,
                env=self.environ,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        return self

    def ready(self) -> Self:
        def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            with suppress(httpx.TransportError):
                return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
            return False

        until(answers, "ready", every=0.05)
        return self

    def end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(LIMIT_SECONDS)
            self.process = None

    def stop(self) -> None:
        self.end(signal.SIGTERM)

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    @property
    def said(self) -> str:
        return self.log.read_text()


@dataclass(slots=True)
class Home:
    """An installation's folder and the processes that were started on it."""

    folder: Path
    given: dict[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    def serve(self, *, workers: int = 1, **given: Any) -> Process:
        port = free_port()
        environ = self._environ({"port": port} | given)
        command = ("serve",) if workers == 1 else ("serve", "--workers", str(workers))
        process = Process(command, environ, self._log("serve"), f"http://127.0.0.1:{port}")
        self.processes.append(process.start())
        return process.ready()

    def jobs(self, **given: Any) -> Process:
        process = Process(("jobs",), self._environ(given), self._log("jobs"))
        self.processes.append(process.start())
        return process

    def command(self, *arguments: str) -> Any:
        """What a `baton` command prints as JSON."""
        found = command(*arguments, "--json", environ=self._environ({}))
        assert found.returncode == 0, found.stderr
        return json.loads(found.stdout)

    def _environ(self, given: dict[str, Any]) -> dict[str, str]:
        own: dict[str, Any] = {"home": self.folder, "mlflow_url": NOWHERE, "log_level": "info"}
        own |= {"jobs_port": 0, "wait_seconds": LIMIT_SECONDS} | self.given | given
        named = {f"BATON_{name.upper()}": str(value) for name, value in own.items()}
        return dict(os.environ) | named | {"MLFLOW_DISABLE_TELEMETRY": "true"}

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}-{len(self.processes)}.log"

    @property
    def database(self) -> str:
        """The URL where it is not SQLite in the folder."""
        return self.given.get("database", "")

    @property
    def url(self) -> str:
        return self.database or f"sqlite:///{self.folder / 'baton.sqlite3'}"

    @property
    def admin(self) -> str:
        return str(json.loads((self.folder / "keys.json").read_text())["admin"])

    def workspace(
        self, name: str, through: Process, *, mode: str = "shadow", recipe: str = RECIPE
    ) -> Place:
        with Client(through.url, self.admin) as admin:
            body = {"id": name, "mode": mode, "recipe": recipe}
            return Place(self, name, admin.post("/v1/workspaces", body)["keys"])

    def rows(self, sql: str, *given: Any) -> list[dict[str, Any]]:
        """What the database holds, read beside everything of Baton."""
        if self.database:
            with _postgres(self.database) as connection:
                return connection.execute(sql.replace("?", "%s"), given or None).fetchall()
        with closing(self._sqlite()) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, given)]

    def change(self, sql: str, *given: Any) -> None:
        if self.database:
            with _postgres(self.database) as connection:
                connection.execute(sql.replace("?", "%s"), given or None)
            return
        with closing(self._sqlite()) as connection:
            connection.execute(sql, given)
            connection.commit()

    def _sqlite(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "baton.sqlite3", timeout=LIMIT_SECONDS)


@dataclass(frozen=True, slots=True)
class Place:
    """A workspace and its keys by role."""

    home: Home
    name: str
    keys: dict[str, str]

    def caller(
        self, role: str, process: Process, patience_seconds: float = LIMIT_SECONDS
    ) -> Client:
        return Client(process.url, self.keys[role], patience_seconds=patience_seconds)

    def entries(self) -> list[Entry]:
        rows = self.home.rows(
            "SELECT position, kind, body, actor, at FROM ledger WHERE workspace = ? "
            "ORDER BY position",
            self.name,
        )
        return [Entry(**row | {"body": json.loads(row["body"])}) for row in rows]

    def bare(self, without: Exclusions = Exclusions(), recipe: str = RECIPE) -> ModelState:
        """What learning alone makes of the stored rows, from nothing and through all switches."""
        standing = ModelState(recipe=recipe, without=without)
        replay_entries(standing, self.entries(), self.transcript, through_switches=True)
        return standing

    def bare_digest(self, without: Exclusions = Exclusions(), recipe: str = RECIPE) -> str:
        return checkpoint.digest(self.bare(without, recipe))

    def transcript(self, conversation: str, until: int) -> list[Turn]:
        rows = self.home.rows(
            "SELECT * FROM message WHERE workspace = ? AND conversation_id = ? AND seq <= ? "
            "ORDER BY seq",
            self.name,
            conversation,
            until,
        )
        return [_turn(row) for row in rows]


class _AsText(Loader):
    """JSON as SQLite gives it."""

    def load(self, data: Any) -> str:
        return bytes(data).decode()


def _postgres(url: str) -> psycopg.Connection[dict[str, Any]]:
    connection = psycopg.connect(url, row_factory=dict_row)
    connection.adapters.register_loader("json", _AsText)
    return connection


def _turn(row: dict[str, Any]) -> Turn:
    bot = json.loads(row["bot"]) if row["bot"] else None
    attributes = json.loads(row["attributes"]) if row["attributes"] else None
    message = Message(
        row["id"],
        row["author"],
        row["text"],
        row["at"],
        row["language"],
        BotReport(**bot) if bot else None,
        tuple(sorted((attributes or {}).items())),
        row["event"],
    )
    return Turn(message, bool(row["scored"]))


@contextmanager
def installation(folder: Path, **given: Any) -> Iterator[Home]:
    """A home without anything; its processes end with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    home = Home(folder, {name: str(value) for name, value in given.items()})
    try:
        yield home
    finally:
        for process in home.processes:
            process.kill()


TEXTS = (
    "where is my parcel, it should have come on monday",
    "that did not help, I want my money back",
    "thank you, that is all",
    "the code for my login never arrives",
    "this is the THIRD time I ask the same thing!!!",
    "how do I change the address of my order",
    "please let me talk to a human",
    "my card was charged twice, this is fraud",
)
"""What customers say in these tests; the last two of them escalate by rule."""


def teach(client: Client, name: str, number: int, *, verdict: str | None = None) -> dict[str, Any]:
    """A short conversation and its outcome, both told by its number."""
    for place in range(1 + number % 3):
        client.score(name, f"m{place}", f"{TEXTS[(number * 3 + place) % 6]} {number % 7}")
    return client.outcome(name, verdict or ("missed" if number % 3 == 0 else "fine"))
