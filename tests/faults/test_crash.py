"""Killed at any instant, under load: what was acknowledged is there once, and none is half there.

The instants are drawn from a seed that is printed; BATON_TEST_SEED sets another.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from experiments.replay.client import RefusedError, path_of
from learning.ledger import checkpoint
from learning.ledger.model_state import replay_entries
from tests.running import TEXTS, Client, Home, Place, installation, teach, until
from tests.waiting import LIMIT_SECONDS

KILLS = 3
TALKERS = 4


@pytest.fixture
def draw() -> random.Random:
    seed = int(os.environ.get("BATON_TEST_SEED", "20261123"))
    print(f"BATON_TEST_SEED={seed}")
    return random.Random(seed)


@dataclass
class Acknowledged:
    """What a talker was told. `decisions` by conversation and message, `outcomes` by id."""

    decisions: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    broken: list[BaseException] = field(default_factory=list)


def talk(client: Client, name: str, told: Acknowledged, done: threading.Event) -> None:
    """Conversations one after another: scores, now and then a person, an outcome, the end."""
    number = 0
    while not done.is_set():
        conversation = f"{name}-{number}"
        handoff = None
        for place in range(1 + number % 4):
            text = TEXTS[(number * 5 + place) % len(TEXTS)]
            history = [{"id": f"b{place}", "author": "bot", "text": "I see."}] if place else []
            answer = twice(
                number,
                lambda c=conversation, m=f"m{place}", t=text, h=history: client.score(
                    c, m, t, history=h
                ),
            )
            told.decisions[conversation, f"m{place}"] = answer
            handoff = handoff or answer["handoff"]
        found = twice(number, lambda c=conversation, h=handoff, n=number: judged(client, c, h, n))
        if handoff is not None:
            client.post(path_of("handoffs", handoff["id"], "resolve"), {})
        told.outcomes[found["id"]] = found["position"]
        client.post(path_of("conversations", conversation, "close"), {"resolution": "unknown"})
        told.closed.add(conversation)
        number += 1


def judged(client: Client, conversation: str, handoff: Any, number: int) -> dict[str, Any]:
    if handoff is None:
        return client.outcome(conversation, "missed" if number % 3 == 0 else "fine")
    verdict = ("needed", "not_needed")[number % 2]
    return client.post(path_of("handoffs", handoff["id"], "outcome"), {"verdict": verdict})


def twice(number: int, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Ask, and now and then ask again, as one does who missed the answer."""
    answer = ask()
    if number % 3 == 0:
        assert ask() == answer
    return answer


def under_load(
    place: Place, process: Any, disturb: Callable[[], None], patience_seconds: float = LIMIT_SECONDS
) -> list[Acknowledged]:
    """Talk from several threads while something disturbs the service; what each was told."""
    done = threading.Event()
    told = [Acknowledged() for _ in range(TALKERS)]

    def run(number: int) -> None:
        try:
            with place.caller("agent", process, patience_seconds) as client:
                talk(client, f"t{number}", told[number], done)
        except BaseException as error:
            told[number].broken.append(error)
            raise

    threads = [threading.Thread(target=run, args=(n,)) for n in range(TALKERS)]
    for thread in threads:
        thread.start()
    try:
        disturb()
    finally:
        done.set()
        for thread in threads:
            thread.join(LIMIT_SECONDS)
    assert not any(one.broken for one in told)
    return told


def whole(place: Place, told: list[Acknowledged]) -> None:
    """Everything acknowledged is stored once, nothing is half stored, and the ledger is gapless."""
    home, name = place.home, place.name

    def stored(table: str, columns: str) -> list[dict[str, Any]]:
        return home.rows(f"SELECT {columns} FROM {table} WHERE workspace = ?", name)

    decisions = stored("decision", "*")
    by_place = {(d["conversation_id"], d["message_id"]): d for d in decisions}
    assert len(by_place) == len(decisions)
    for one in told:
        for place_, answer in one.decisions.items():
            row = by_place[place_]
            assert row["id"] == answer["decision_id"]
            assert row["probability"] == answer["probability"]
            assert row["position"] == answer["position"]
            assert (row["handoff"] is None) == (answer["handoff"] is None)

    entries = place.entries()
    assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))
    (workspace,) = home.rows("SELECT head FROM workspace WHERE id = ?", name)
    assert workspace["head"] == len(entries)
    outcomes = {row["id"]: row for row in stored("outcome", "*")}
    acknowledged = {key: at for one in told for key, at in one.outcomes.items()}
    assert acknowledged.items() <= {key: row["position"] for key, row in outcomes.items()}.items()
    written = {e.body["outcome_id"]: e.position for e in entries if e.kind == "outcome"}
    assert written == {key: row["position"] for key, row in outcomes.items()}
    about = Counter((row["conversation_id"], row["handoff_id"]) for row in outcomes.values())
    assert set(about.values()) <= {1}

    messages = stored("message", "conversation_id, seq, id, scored")
    lengths = Counter(row["conversation_id"] for row in messages)
    conversations = {row["id"]: row for row in stored("conversation", "*")}
    assert {key: row["length"] for key, row in conversations.items()} == dict(lengths)
    assert all(row["seq"] <= lengths[row["conversation_id"]] for row in messages)
    scored = {(row["conversation_id"], row["seq"]) for row in messages if row["scored"]}
    decided = {(d["conversation_id"], d["seq"]) for d in decisions if d["action"] != "human_active"}
    assert scored == decided
    handoffs = {row["id"]: row for row in stored("handoff", "*")}
    opened = {json.loads(d["handoff"])["id"] for d in decisions if d["action"] == "escalate"}
    assert opened == set(handoffs)
    for row in conversations.values():
        open_ = {h for h, found in handoffs.items() if found["conversation_id"] == row["id"]}
        open_ = {h for h in open_ if handoffs[h]["status"] in ("waiting", "claimed")}
        assert open_ == ({row["handoff_id"]} if row["handoff_id"] else set())
    for one in told:
        assert all(conversations[key]["status"] == "closed" for key in one.closed)


@pytest.mark.slow
def test_the_service_killed_under_load_loses_and_doubles_nothing(
    tmp_path: Path, draw: random.Random
) -> None:
    with installation(tmp_path) as home:
        service = home.serve()
        place = home.workspace("killed", service, mode="live")

        def disturb() -> None:
            for _ in range(KILLS):
                time.sleep(draw.uniform(0.02, 0.5))
                service.kill()
                service.start().ready()
            time.sleep(0.3)

        told = under_load(place, service, disturb)
        with place.caller("engineer", service) as engineer:
            found = engineer.standing
        whole(place, told)
        assert found["position"] == len(place.entries())
        assert found["digest"] == place.bare_digest()
        assert sum(len(one.outcomes) for one in told) >= KILLS
        assert any(d["handoff"] for one in told for d in one.decisions.values())
        repeated(place, service, told)


def repeated(place: Place, service: Any, told: list[Acknowledged]) -> None:
    """Asked again after all the kills, every message has the answer it was given."""
    before = len(place.entries())
    with place.caller("bot", service) as bot:
        for (conversation, message), answer in list(told[0].decisions.items())[:40]:
            rows = place.home.rows(
                "SELECT text FROM message WHERE workspace = ? AND conversation_id = ? AND id = ?",
                place.name,
                conversation,
                message,
            )
            assert bot.score(conversation, message, rows[0]["text"]) == answer
        with pytest.raises(RefusedError, match="409"):
            bot.score(conversation, message, "another text")
    assert len(place.entries()) == before


@pytest.mark.long
def test_two_processes_killed_in_turn_lose_and_double_nothing(
    tmp_path: Path, draw: random.Random
) -> None:
    """The load goes to one of them; the other appends to the same ledger meanwhile."""
    with installation(tmp_path) as home:
        first, second = home.serve(), home.serve()
        place = home.workspace("two", first, mode="live")

        def disturb() -> None:
            with place.caller("bot", second) as bot:
                for turn in range(4):
                    for number in range(3):
                        teach(bot, f"s{turn}-{number}", number)
                    time.sleep(draw.uniform(0.0, 0.3))
                    one = (first, second)[turn % 2]
                    one.kill()
                    one.start().ready()

        told = under_load(place, first, disturb)
        whole(place, told)
        expected = place.bare_digest(), len(place.entries())
        for process in (first, second):
            with place.caller("engineer", process) as engineer:
                until(lambda e=engineer: e.standing["position"] >= expected[1], "learned")
                assert (engineer.standing["digest"], engineer.standing["position"]) == expected


@contextmanager
def refusing(home: Home, table: str, when: str) -> Iterator[None]:
    """The database itself refuses some rows, in the middle of the transactions that write them."""
    refuse = "BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
    home.change(f"CREATE TRIGGER refusing BEFORE INSERT ON {table} WHEN {when} {refuse}")
    try:
        yield
    finally:
        home.change("DROP TRIGGER refusing")


def test_what_the_database_refuses_in_the_middle_is_taken_back_whole_and_alone(
    tmp_path: Path,
) -> None:
    """Those who shared its transaction are answered; nothing of it is remembered in memory."""
    with installation(tmp_path) as home:
        service, second = home.serve(), home.serve()
        place = home.workspace("refused", service, mode="live")
        told = Acknowledged()
        with place.caller("engineer", service, 0.0) as client:
            for number in range(5):
                teach(client, f"c{number}", number)
            before = client.standing
            names = [f"n{number}" for number in range(40)]
            items = [
                {"conversation_id": name, "message": {"id": "m1", "text": TEXTS[0]}}
                for name in names
            ]
            with refusing(home, "decision", "NEW.conversation_id = 'n7'"):
                found = client.post("/v1/score/batch", {"items": items})["results"]
                assert [n for n, one in enumerate(found) if "error" in one] == [7]
                with pytest.raises(RefusedError):
                    client.score("n7", "m1", TEXTS[0])
            told.decisions = {
                (name, "m1"): one for name, one in zip(names, found, strict=True) if name != "n7"
            }
            with place.caller("bot", second) as other:
                told.decisions["n7", "m2"] = other.score("n7", "m2", TEXTS[1])
            told.decisions["n7", "m1"] = client.score("n7", "m1", TEXTS[0])
            for conversation, message in told.decisions:
                made = told.decisions[conversation, message]["decision_id"]
                assert client.get(path_of("decisions", made, "replay"))["identical"] is True
            with refusing(home, "outcome", "NEW.conversation_id = 'n3'"):
                with pytest.raises(RefusedError):
                    client.outcome("n3", "missed")
                assert (client.standing, len(place.entries())) == (before, before["position"])
            for name in ("n3", "n4"):
                made = client.outcome(name, "missed")
                told.outcomes[made["id"]] = made["position"]
            assert client.standing["digest"] == place.bare_digest()
        whole(place, [told])


def leading(home: Home) -> str | None:
    """Who holds the lease of jobs now."""
    rows = home.rows("SELECT holder FROM lease WHERE expires_at > ?", time.time())
    return rows[0]["holder"] if rows else None


@pytest.mark.long
def test_jobs_killed_at_random_leave_ledger_and_versions_whole_and_another_takes_over(
    tmp_path: Path, draw: random.Random
) -> None:
    given = {
        "checkpoint_seconds": 0.2,
        "checkpoint_entries": 3,
        "evaluate_seconds": 0.3,
        "corrections": 1,
        "lease_seconds": 2,
        "publish_seconds": 60,
    }
    with installation(tmp_path, **given) as home:
        service = home.serve()
        place = home.workspace("jobs", service)
        jobs = [home.jobs(), home.jobs()]
        leader = until(lambda: leading(home), "a leader")
        until(lambda: all("started" in one.said for one in jobs), "both run")
        taught: list[dict[str, Any]] = []

        def versions() -> list[dict[str, Any]]:
            sql = "SELECT * FROM version WHERE workspace = ? ORDER BY number"
            return home.rows(sql, place.name)

        with place.caller("agent", service) as agent:

            def more(count: int) -> None:
                for _ in range(count):
                    taught.append(teach(agent, f"c{len(taught)}", len(taught)))

            led: set[Path] = set()
            for _ in range(3):
                more(5)
                seen = len(versions())
                until(lambda n=seen: len(versions()) > n, "a checkpoint by the leader")
                (acting,) = [one for one in jobs if str(one.process.pid) in leader.split(":")]
                (idle,) = [one for one in jobs if one is not acting]
                assert "leading" in acting.said
                if idle.log not in led:
                    assert not {"leading", "version_saved"} & set(
                        idle.said.replace('"', " ").split()
                    )
                led.add(acting.log)
                more(2)
                agent.delete(path_of("outcomes", taught[-1]["id"]))
                agent.delete(path_of("outcomes", taught[-2]["id"]))
                time.sleep(draw.uniform(0.0, 0.6))
                acting.kill()
                assert leading(home) in (leader, None)
                was = leader
                leader = until(
                    lambda w=was: (leading(home) or w) != w and leading(home), "another leads"
                )
                assert leader.endswith(f":{idle.process.pid}")
                acting.start()
            until(lambda: switched(place) == 6, "every retraction is undone or rebuilt without")
        for row in versions():
            assert checkpoint.digest(checkpoint.load(row["state"])) == row["digest"]
        numbers = [row["number"] for row in versions()]
        assert numbers == list(range(1, len(numbers) + 1))
        entries = place.entries()
        assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))
        with place.caller("engineer", service) as engineer:
            until(lambda: engineer.standing["position"] == len(entries), "learned")
            found = engineer.standing
        assert found["digest"] == without_the_retracted(place)


def switched(place: Place) -> int:
    """How many outcomes the serving line leaves out."""
    newest = [entry for entry in place.entries() if entry.kind == "switch"][-1]
    return len(newest.body["without"].get("positions", ()))


def without_the_retracted(place: Place) -> str:
    """The digest of the ledger without what was taken back, learned from nothing."""
    entries = place.entries()
    gone = {e.body["replaces"] for e in entries if e.kind == "retraction"}
    standing = place.bare()
    standing = type(standing)(recipe=standing.recipe)
    for entry in entries:
        if entry.position in gone:
            standing.position = entry.position
        else:
            replay_entries(standing, [entry], place.transcript, through_switches=True)
    return checkpoint.digest(standing)
