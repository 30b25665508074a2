"""Any past decision can be made again, to the bit, whatever has happened since."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from experiments.replay.client import path_of
from learning.decision.policy import Policy
from learning.models.recipes import DEFAULT
from service.jobs.maintenance import Maintenance
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from service.versions.model_lines import ModelLines
from tests.running import TEXTS, Client, Home, Process, installation, teach

DECISIONS = 1000
PHASES = 8
PARTS = ("action", "probability", "uncertainty", "triggers", "reasons")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with installation(tmp_path_factory.mktemp("replay")) as home:
        yield home


@pytest.fixture(scope="module")
def service(home: Home) -> Process:
    return home.serve()


def asked(phase: int, number: int) -> dict[str, Any]:
    """Turn `phase` of a conversation that goes on through all phases, or of a new one."""
    goes_on = number % 2 == 0
    text = f"{TEXTS[(number + phase * 3) % len(TEXTS)]} {number % 11}"
    found: dict[str, Any] = {
        "conversation_id": f"long {number}" if goes_on else f"short {phase} {number}",
        "message": {"id": f"m{phase}", "text": text, "language": "en"},
        "bot": {"confidence": 0.9 - number % 3 / 4, "fallback": (number + phase) % 9 == 0},
        "attributes": {"plan": "gold", "spent": number / 7, "vip": number % 2 == 0},
    }
    if phase and goes_on:
        found["history"] = [{"id": f"b{phase}", "author": "bot", "text": "Let me look at that."}]
    return found


def decide(client: Client, phase: int) -> list[dict[str, Any]]:
    items = [asked(phase, number) for number in range(DECISIONS // PHASES)]
    found = client.post("/v1/score/batch", {"items": items})["results"]
    assert all("decision_id" in one for one in found), found
    return list(found)


@pytest.mark.parametrize("recipe", [DEFAULT])
def test_a_thousand_decisions_are_made_again_identically(
    home: Home, service: Process, recipe: str
) -> None:
    """Made untrained, while learning, under another policy, past a checkpoint, by a promoted
    rebuild, after a rollback, after a restart.
    """
    place = home.workspace("replayed", service, recipe=recipe)
    store = Store(f"sqlite:///{home.folder / 'baton.sqlite3'}")
    upkeep = Maintenance(store, Settings(home=home.folder))
    found: list[dict[str, Any]] = []
    with place.caller("engineer", service) as client:

        def next_phase() -> None:
            phase = len(found) // (DECISIONS // PHASES)
            found.extend(decide(client, phase))
            for number in range(6):
                teach(client, f"taught {phase}-{number}", number + phase)

        next_phase()
        next_phase()
        client.put("/v1/policy", Policy(waiting_seconds=60.0).model_dump(mode="json"))
        client.put("/v1/policy", missed_costs(4.0).model_dump(mode="json"))
        next_phase()
        saved = upkeep.save(place.name, ModelLines(store).champion(place.name))
        next_phase()
        rebuilt = home.command("rebuild", "--workspace", place.name, "--promote")
        next_phase()
        service.kill()
        service.start().ready()
        next_phase()
        back = client.post("/v1/rollback", {"to": saved, "reason": "to see it again"})
        assert back["serving"]
        next_phase()
        again = client.post(f"/v1/versions/{rebuilt['version']}/promote", {"reason": "and back"})
        assert again["serving"]
        client.put("/v1/policy", missed_costs(0.02).model_dump(mode="json"))
        next_phase()
        assert len(found) == DECISIONS
        assert {one["version"] for one in found} == {1, saved, rebuilt["version"]}
        assert len({one["position"] for one in found}) >= PHASES
        assert {one["action"] for one in found} == {"continue", "offer", "escalate"}

        for one in found:
            told = client.get(path_of("decisions", one["decision_id"], "replay"))
            assert told["identical"] is True, (one, told)
            assert {p: told["again"][p] for p in PARTS} == {p: one[p] for p in PARTS}
        for one in random.Random(4).sample(found, 40):
            told = client.get(path_of("decisions", one["decision_id"], "replay"))
            assert told["identical"] is True
    store.close()


def missed_costs(times: float) -> Policy:
    """The default policy but for the cost of a miss."""
    policy = Policy()
    costs = policy.costs.model_copy(update={"missed": policy.costs.missed * times})
    return policy.model_copy(update={"costs": costs})


def test_decisions_around_a_handoff_are_made_again_and_silence_was_no_decision(
    home: Home, service: Process
) -> None:
    place = home.workspace("around", service, mode="live")
    with place.caller("agent", service) as client:
        made = [client.score("one", "m1", "where is my parcel")]
        made.append(client.score("one", "m2", "let me talk to a human"))
        silent = client.score("one", "m3", "hello?")
        handoff = made[1]["handoff"]["id"]
        client.post(path_of("handoffs", handoff, "outcome"), {"verdict": "needed"})
        client.post(path_of("handoffs", handoff, "return"), {})
        made.append(client.score("one", "m4", "thank you"))
        assert silent["action"] == "human_active"
        told = client.get(path_of("decisions", silent["decision_id"], "replay"))
        assert (told["identical"], "a person was there" in told["why"]) == (None, True)
        for one in made:
            told = client.get(path_of("decisions", one["decision_id"], "replay"))
            assert told["identical"] is True, told


def test_a_decision_whose_text_was_changed_is_told_from_the_one_that_was_made(
    home: Home, service: Process
) -> None:
    place = home.workspace("tampered", service)
    with place.caller("agent", service) as client:
        for number in range(5):
            teach(client, f"c{number}", number)
        made = client.score("one", "m1", "where is my parcel")
        replay = path_of("decisions", made["decision_id"], "replay")
        assert client.get(replay)["identical"] is True
        sql = "UPDATE message SET text = ? WHERE workspace = ? AND conversation_id = ?"
        home.change(sql, "I want to talk to a human", place.name, "one")
        told = client.get(replay)
        assert told["identical"] is False
        assert "probability" in told["why"]
        home.change(
            "DELETE FROM message WHERE workspace = ? AND conversation_id = 'one'", "tampered"
        )
        told = client.get(replay)
        assert (told["identical"], told["why"]) == (None, "its text was removed")


def test_what_an_outcome_taught_does_not_change_with_what_is_scored_later(
    home: Home, service: Process
) -> None:
    """A bot's turn that came unscored and was judged cannot become a lesson afterwards."""
    place = home.workspace("later", service)
    with place.caller("engineer", service) as client:
        client.score("one", "m1", "where is my parcel")
        turn = {"id": "b1", "author": "bot", "text": "I do not know."}
        client.post("/v1/conversations/one/messages", {"messages": [turn]})
        client.outcome("one", "missed")
        body = {"conversation_id": "one", "message": turn}
        before = client.standing["digest"]
        with pytest.raises(Exception, match="message_judged"):
            client.post("/v1/score", body)
        assert client.standing["digest"] == before == place.bare_digest()
        service.stop()
        service.start().ready()
        assert client.standing["digest"] == before


def test_a_bot_s_turn_may_be_scored_after_it_was_appended_while_nobody_judged_it(
    home: Home, service: Process
) -> None:
    place = home.workspace("appended", service)
    with place.caller("agent", service) as client:
        client.score("one", "m1", "where is my parcel")
        client.outcome("one", "fine")
        turn = {"id": "b1", "author": "bot", "text": "I do not know."}
        client.post("/v1/conversations/one/messages", {"messages": [turn]})
        made = client.post("/v1/score", {"conversation_id": "one", "message": turn})
        told = client.get(path_of("decisions", made["decision_id"], "replay"))
        assert told["identical"] is True
