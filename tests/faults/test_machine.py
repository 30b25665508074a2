"""Random routes, restarts and faults against a plain model of what must hold.

Acknowledged is durable, a repeated request has one effect and one answer, the ledger is gapless,
every process's digest is the fold of the ledger, and the bot is silent while a person is there.
Customers edit what they wrote, which is decided anew, and remove it, which every process forgets.
"""

from __future__ import annotations

import random
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from learning.ledger import checkpoint
from service.jobs.maintenance import Maintenance
from service.runtime.settings import Settings
from service.store.handoffs import handoff_rows
from service.versions.restore import restore
from tests import postgres
from tests.service_in_process import ROLES, Caller, InProcess, in_one_batch, serving
from tests.waiting import until

NAMES = ("a", "b", "c")
TEXTS = (
    "where is my parcel",
    "I want to talk to a human please",
    "that did not help at all",
    "my account was hacked",
    "I am going to kill myself",
)
PROTECTED, URGENT = (1, 3, 4), (3, 4)
EVERY = 4
ACTS = (
    *(8 * ("score",) + 3 * ("outcome",) + 3 * ("edit",)),
    *("remove", "remove"),
    *("score again", "look again", "leave", "leave", "retract"),
    *("nobody comes", "take over", "hand over"),
    *("restart", "checkpoint", "stand anew", "cut"),
    *(3 * ("race",)),
)


class Machine(RuleBasedStateMachine):
    """Two processes' worth of a service on one store, in one process; each may be started anew."""

    kind = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.running: list[tuple[ExitStack, InProcess]] = []
        self.decided: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        self.edits: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        self.removals: dict[tuple[str, str], int] = {}
        self.outcomes: dict[str, tuple[str, dict[str, Any]]] = {}
        self.open: dict[str, str] = {}
        self.closed: dict[str, str] = {}
        self.unanswered: set[str] = set()
        self.head = 2
        self.acts = 0

    @initialize()
    def begin(self) -> None:
        self.home = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.url = self.stack.enter_context(postgres.store(self.kind, self.home))
        for _ in range(2):
            self._start()
        admin = self.running[0][1].caller(self.running[0][1].keys["admin"])
        made = admin.posted("/v1/workspaces", {"id": "w", "mode": "live", "recipe": "bayes-4"})
        self.keys = {role: made["keys"][role] for role in ROLES}

    def _start(self) -> None:
        own = ExitStack()
        given = {"database": self.url, "checkpoint_entries": EVERY, "poll_seconds": 0.02}
        self.running.append((own, own.enter_context(serving(self.home, **given))))

    def teardown(self) -> None:
        for own, _ in self.running:
            own.close()
        self.stack.close()

    def caller(self, which: int, role: str) -> Caller:
        return self.running[which][1].caller(self.keys[role])

    @rule(seed=st.integers(0, 2**32))
    def act(self, seed: int) -> None:
        """One rule for all acts, drawn evenly: Hypothesis leaves whole rules out of most examples
        and repeats itself in others, so that hardly anything happened in any of a few.
        """
        draw = random.Random(f"{seed} {self.acts}")
        self.acts += 1
        act, which, pick = draw.choice(ACTS), draw.randrange(2), draw.randrange(100)
        name, message, said = (
            draw.choice(NAMES),
            f"m{draw.randrange(9)}",
            draw.randrange(len(TEXTS)),
        )
        if act == "score":
            self._score(which, name, message, said)
        elif act == "edit" and self.decided:
            self._edit(which, pick, said)
        elif act == "remove" and self.decided:
            self._remove(which, pick)
        elif act == "outcome":
            self._outcome(which, name, ("missed", "fine")[said % 2])
        elif act == "race":
            self._race(which, draw)
        elif act == "score again" and self.decided:
            self._score_again(which, pick)
        elif act == "look again" and self.decided:
            self._look_again(which, pick)
        elif act == "leave" and self.open:
            self._leave(which, ("resolve", "return")[said % 2], pick)
        elif act == "nobody comes" and self.open:
            self._nobody_comes(pick)
        elif act in ("take over", "hand over"):
            self._take(which, name, by_bot=act == "hand over")
        elif act == "retract" and self.outcomes:
            self._retract(which, pick)
        elif act == "restart":
            self._restart(which)
        elif act == "checkpoint":
            self._checkpoint()
        elif act == "stand anew":
            self._stand_anew(which)
        elif act == "cut" and self.kind == "postgresql":
            self._cut()

    def _score(self, which: int, name: str, message: str, said: int) -> None:
        answer = self.caller(which, "bot").score(name, message, TEXTS[said])
        known = self.decided.get((name, message))
        if known is not None:
            if (name, message) in self.removals:
                assert answer.status_code == 409
            elif known[0] == TEXTS[said]:
                assert answer.status_code == 200, answer.text
                self._same(name, answer.json(), known[1])
            else:
                assert answer.status_code == 409
            return
        assert answer.status_code == 200, answer.text
        found = answer.json()
        self.decided[name, message] = (TEXTS[said], found)
        self._decided(which, name, said, found)

    def _decided(self, which: int, name: str, said: int, found: dict[str, Any]) -> None:
        """What must hold of a decision that was just made."""
        self.closed.pop(name, None)
        assert (found["action"] == "human_active") == (name in self.open)
        if name in self.open:
            assert found["handoff"]["id"] == self.open[name]
            assert found["handoff"]["raised"] is (said in URGENT)
            assert found["handoff"]["priority"] == 1 or said not in URGENT
        elif said in PROTECTED:
            assert found["action"] == "escalate"
        elif name in self.unanswered:
            assert found["action"] in ("offer", "escalate")
            self.unanswered.discard(name)  # the next message ignores it: a cool-down
        if found["action"] == "escalate":
            self.open[name] = found["handoff"]["id"]
            self.unanswered.discard(name)
        self._decided_again(which, found)

    def _edit(self, which: int, pick: int, said: int) -> None:
        """The customer edits what they wrote, perhaps to what it says already."""
        keys = sorted(self.decided)
        name, message = key = keys[pick % len(keys)]
        path = f"/v1/conversations/{name}/messages/{message}"
        answer = self.caller(which, "bot").put(path, json={"text": TEXTS[said]})
        if key in self.removals:
            assert answer.status_code == 409
            return
        assert answer.status_code == 200, answer.text
        newest = self.edits.get(key, self.decided[key])
        if newest[0] == TEXTS[said]:
            self._same(name, answer.json(), newest[1])
            return
        self.edits[key] = (TEXTS[said], answer.json())
        self._decided(which, name, said, answer.json())

    def _remove(self, which: int, pick: int) -> None:
        """The customer removes what they wrote, in all its versions; again is the same."""
        keys = sorted(self.decided)
        name, message = key = keys[pick % len(keys)]
        path = f"/v1/conversations/{name}/messages/{message}"
        answers = [self.caller(at, "bot").delete(path) for at in (which, 1 - which)]
        assert [one.status_code for one in answers] == [200, 200], answers[0].text
        assert answers[0].json() == answers[1].json()
        if key not in self.removals:
            self.head += 1
            self.removals[key] = self.head
        assert answers[0].json()["position"] == self.removals[key]
        found = self.caller(which, "agent").got(f"/v1/conversations/{name}")["messages"]
        texts = [one["text"] for one in found if message in (one["id"], one["edits"])]
        assert texts == [""] * len(texts) != []

    def _score_again(self, which: int, pick: int) -> None:
        names = sorted(self.decided.keys() - self.removals.keys())
        if not names:
            return
        name, message = names[pick % len(names)]
        said, answer = self.decided[name, message]
        self._same(name, self.caller(which, "bot").decided(name, message, said), answer)

    def _same(self, name: str, found: dict[str, Any], known: dict[str, Any]) -> None:
        """The answer that was given; its reasons no longer quote what was removed since."""
        if any(conversation == name for conversation, _ in self.removals):
            found, known = found | {"reasons": []}, known | {"reasons": []}
        assert found == known

    def _leave(self, which: int, how: str, pick: int) -> None:
        name = sorted(self.open)[pick % len(self.open)]
        self.caller(which, "agent").posted(f"/v1/handoffs/{self.open.pop(name)}/{how}")
        self.unanswered.discard(name)

    def _nobody_comes(self, pick: int) -> None:
        """Nobody claims a handoff in time: its request stands, and what is urgent escalates."""
        name = sorted(self.open)[pick % len(self.open)]
        store, handoff = self.running[0][1].baton.store, self.open.pop(name)
        values = {"opened_at": time.time() - 700_000, "status": "waiting"}
        with store.write() as connection:
            handoff_rows.change(connection, "w", handoff, **values)
        Maintenance(store, Settings()).expire()
        self.unanswered.add(name)

    def _take(self, which: int, name: str, *, by_bot: bool) -> None:
        """A bot hands over by itself, or a person speaks: both open a handoff, or find it open."""
        bot = self.caller(which, "bot")
        if not by_bot and not any(conversation == name for conversation, _ in self.decided):
            return
        if by_bot:
            answer = bot.post("/v1/handoffs", json={"conversation_id": name, "reason": "stuck"})
            if not any(conversation == name for conversation, _ in self.decided):
                assert answer.status_code == 404 or name in self.open
                return
            found = answer.json()["id"]
        else:
            turn = {"id": f"a{self.acts}", "author": "agent", "text": "I have it"}
            path = f"/v1/conversations/{name}/messages"
            assert bot.posted(path, {"messages": [turn]})["human_active"] is True
            found = self.caller(which, "agent").got(f"/v1/conversations/{name}")["handoff_id"]
        assert self.open.setdefault(name, found) == found
        self.unanswered.discard(name)

    def _outcome(self, which: int, name: str, verdict: str) -> None:
        path = f"/v1/conversations/{name}/outcome"
        answer = self.caller(which, "agent").post(path, json={"verdict": verdict})
        known = self.outcomes.get(name)
        if not any(conversation == name for conversation, _ in self.decided):
            assert answer.status_code == 404
        elif known is None:
            assert answer.status_code == 200, answer.text
            self.outcomes[name] = (verdict, answer.json())
            self.head += 1
            assert answer.json()["position"] == self.head
        elif known[0] == verdict:
            assert answer.json() == known[1]
        else:
            assert answer.status_code == 409

    def _race(self, which: int, draw: random.Random) -> None:
        """One batch of requests about a conversation that does not exist yet, in any order."""
        name, said = f"race{self.acts}", draw.randrange(len(TEXTS))
        acts = draw.choices(("score", "close", "outcome", "messages"), k=draw.randrange(2, 6))
        bot, path = self.caller(which, "bot"), f"/v1/conversations/{name}"
        turn = {"id": "said", "author": "bot", "text": "one moment"}
        bodies: dict[str, Any] = {
            "close": {"resolution": "resolved"},
            "outcome": {"verdict": "missed"},
            "messages": {"messages": [turn]},
        }

        def ask(act: str) -> httpx.Response:
            if act == "score":
                return bot.score(name, "m0", TEXTS[said])
            return bot.post(f"{path}/{act}", json=bodies[act])

        asks = [partial(ask, act) for act in acts]
        answers = in_one_batch(self.running[which][1], asks)
        begun = False
        for act, answer in zip(acts, answers, strict=True):
            begun = begun or act in ("score", "messages")
            if not begun:
                assert answer.status_code == 404, (acts, answer.text)
                continue
            assert answer.status_code == 200, (acts, answer.text)
            found = answer.json()
            if act == "score":
                if found["action"] == "escalate" and (name, "m0") not in self.decided:
                    self.open[name] = found["handoff"]["id"]
                assert self.decided.setdefault((name, "m0"), (TEXTS[said], found))[1] == found
            elif act == "close":
                self.open.pop(name, None)
            elif act == "outcome":
                if name not in self.outcomes:
                    self.head += 1
                    assert found["position"] == self.head
                assert self.outcomes.setdefault(name, ("missed", found))[1] == found
        if (name, "m0") in self.decided:
            self._decided_again(which, self.decided[name, "m0"][1])

    def _retract(self, which: int, pick: int) -> None:
        name = sorted(self.outcomes)[pick % len(self.outcomes)]
        found = self.outcomes.pop(name)[1]
        path = f"/v1/outcomes/{found['id']}"
        answers = [self.caller(which, "agent").delete(path) for _ in range(2)]
        assert answers[0].json() == answers[1].json()
        self.head += 1
        assert answers[0].json()["position"] == self.head
        if answers[0].json()["effect"] == "gone":  # a line without it serves from here on
            self.head += 1

    def _restart(self, which: int) -> None:
        self.running.pop(which)[0].close()
        self._start()

    def _checkpoint(self) -> None:
        store = self.running[0][1].baton.store
        Maintenance(store, Settings(checkpoint_entries=EVERY)).checkpoint()

    def _cut(self) -> None:
        """Connections are cut between requests: the pools notice."""
        name = self.url.rsplit("?", 1)[0].rsplit("/", 1)[1]
        postgres._shared().cut(name)

    def _stand_anew(self, which: int) -> None:
        """What a process does after a switch, or when it found that it had diverged."""
        serving_ = self.running[which][1].baton.engine._live_models
        served = serving_.get_loaded("w") if "w" in serving_._models else None
        if served is not None:
            served.swap(restore(self.running[which][1].baton.store, "w"))

    @precondition(lambda self: self.running)
    @invariant()
    def both_hold_the_fold_of_a_gapless_ledger(self) -> None:
        if not hasattr(self, "keys"):
            return
        store = self.running[0][1].baton.store
        expected = checkpoint.digest(restore(store, "w"))
        for which in range(2):
            engineer = self.caller(which, "engineer")

            def stands(engineer: Any = engineer) -> Any:
                found = engineer.got("/v1/standing")
                return found if found["position"] == self.head else None

            found = until(stands, f"position {self.head}", every=0.005)
            assert (found["position"], found["digest"]) == (self.head, expected)

    def _look_again(self, which: int, pick: int) -> None:
        names = sorted(self.decided)
        self._decided_again(which, self.decided[names[pick % len(names)]][1])

    def _decided_again(self, which: int, decided: dict[str, Any]) -> None:
        path = f"/v1/decisions/{decided['decision_id']}"
        row = self.caller(which, "agent").got(path)
        assert row["probability"] == decided["probability"]
        replay = self.caller(which, "agent").got(f"{path}/replay")
        gone = any(row["position"] < removed for removed in self.removals.values())
        if decided["action"] == "human_active":
            assert replay["identical"] is None
        elif gone:  # it may have been made of words, or stood on a lesson, that are gone since
            assert replay["identical"] or "removed" in replay["why"], replay
        else:
            assert replay["identical"] is True, replay


@pytest.mark.parametrize("kind", postgres.ONE)
def test_whatever_comes_in_whatever_order_what_must_hold_holds(kind: str) -> None:
    machine = type(f"Machine_{kind}", (Machine,), {"kind": kind})
    few = settings(
        max_examples=3,
        stateful_step_count=50,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),  # to shrink takes minutes of real services
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=few, _min_steps=45)  # else some do nothing
