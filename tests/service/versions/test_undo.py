"""An outcome that is taken back soon is gone from every model that serves, exactly and at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from learning.ledger.checkpoint import digest
from learning.ledger.model_state import ModelState, replay_entries
from service.jobs.maintenance import Maintenance
from service.quality.dashboard_data import load_dashboard
from service.store.database.transactions import table
from service.store.ledger import entries
from service.store.tables import Version
from service.versions.challengers import challenger_requests
from service.versions.model_lines import ModelLines
from service.versions.restore import restore, transcript_reader
from service.versions.switch_history import moves
from tests.postgres import on_both
from tests.running import installation, teach, until
from tests.service_in_process import InProcess, Place, refusal, serving

store_url = on_both()
TEXTS = ("where is my parcel", "this is the third time I ask", "the lamp is broken", "thank you")


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("undo"), database=store_url) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace("shadow")


def lesson(place: Place, name: str, verdict: str = "missed") -> dict[str, Any]:
    """A conversation of one message and its outcome."""
    place.bot.decided(name, "m", f"{TEXTS[len(name) % len(TEXTS)]} {name}")
    found: dict[str, Any] = place.agent.posted(
        f"/v1/conversations/{name}/outcome", {"verdict": verdict}
    )
    return found


def taken_back(place: Place, outcome: dict[str, Any]) -> dict[str, Any]:
    answer = place.agent.delete(f"/v1/outcomes/{outcome['id']}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def standing(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = place.engineer.got("/v1/standing")
    return found


def without(place: Place, *positions: int) -> str:
    """The digest of the whole ledger without these entries, learned from nothing."""
    state = ModelState(recipe="bayes-4")
    with place.service.baton.store.read() as connection:
        ledger = entries.tail(connection, place.name, 0)
        for entry in ledger:
            if entry.position in positions:
                state.position = entry.position
            else:
                read = transcript_reader(connection, place.name)
                replay_entries(state, [entry], read, through_switches=True)
    return digest(state)


def maintenance(place: Place) -> Maintenance:
    return Maintenance(place.service.baton.store, place.service.baton.settings)


def checkpointed(place: Place) -> int:
    jobs = maintenance(place)
    return jobs.save(place.name, jobs._lines.champion(place.name))


def test_what_was_taken_back_is_as_if_it_had_never_been_said(place: Place) -> None:
    lesson(place, "before")
    checkpointed(place)
    lesson(place, "between")
    mistake = lesson(place, "mistaken")
    lesson(place, "after", "fine")
    answer = taken_back(place, mistake)
    assert answer["effect"] == "gone"
    assert standing(place)["digest"] == without(place, mistake["position"])
    lesson(place, "later")
    assert standing(place)["digest"] == without(place, mistake["position"])


def test_what_a_checkpoint_has_learned_leaves_at_the_rebuild_and_says_so(place: Place) -> None:
    mistake = lesson(place, "mistaken")
    checkpointed(place)
    learned = standing(place)["digest"]
    answer = taken_back(place, mistake)
    assert answer["effect"] == "at_rebuild"
    assert standing(place)["digest"] == learned
    why = place.agent.got(f"/v1/outcomes/{mistake['id']}/effect")["why"]
    assert "at the next rebuild" in why


def test_a_damaged_checkpoint_is_passed_over_by_who_stands_at_an_undo(place: Place) -> None:
    lesson(place, "before")
    checkpointed(place)
    lesson(place, "between")
    newest = checkpointed(place)
    mistake = lesson(place, "mistaken")
    store, rows = place.service.baton.store, table(Version)
    with store.write() as connection:
        damaged = (rows.c.workspace == place.name) & (rows.c.number == newest)
        connection.execute(update(rows).where(damaged).values(state=b"cut"))
    assert taken_back(place, mistake)["effect"] == "gone"
    taken_back(place, lesson(place, "again"))
    again = place.ledger()[-1]
    assert again["conversation_id"] == "again"
    expected = without(
        place, mistake["position"], place.ledger("switch")[-1]["without"]["positions"][-1]
    )
    assert standing(place)["digest"] == expected


def test_the_same_request_again_is_the_same_answer_and_one_switch(place: Place) -> None:
    mistake = lesson(place, "mistaken")
    assert taken_back(place, mistake) == taken_back(place, mistake)
    assert len(place.ledger("retraction")) == 1
    assert [one["kind"] for one in place.ledger("switch")] == ["promotion", "undo"]
    why = place.agent.got(f"/v1/outcomes/{mistake['id']}/effect")["why"]
    assert "gone from the model" in why


def test_undos_that_follow_each_other_leave_all_of_it_out_and_are_one_move(place: Place) -> None:
    kept, first, second = (lesson(place, name) for name in ("one", "other", "another"))
    taken_back(place, first)
    taken_back(place, second)
    assert standing(place)["digest"] == without(place, first["position"], second["position"])
    with place.service.baton.store.read() as connection:
        history = moves(connection, place.name)
    assert [move["what"] for move in history] == ["undo", "promotion"]
    assert kept["position"] not in place.ledger("switch")[-1]["without"]["positions"]


def test_a_corrected_outcome_goes_with_its_correction(place: Place) -> None:
    lesson(place, "kept")
    wrong = lesson(place, "wrong")
    right = place.agent.put(f"/v1/outcomes/{wrong['id']}", json={"verdict": "fine"}).json()
    assert taken_back(place, wrong)["effect"] == "gone"
    assert standing(place)["digest"] == without(place, wrong["position"], right["position"])


def test_it_is_no_promotion_and_nobodys_predecessor(place: Place) -> None:
    """Rollback, the watch after a promotion, Today and the event of what serves pass over it."""
    checkpointed(place)
    lesson(place, "kept")
    taken_back(place, lesson(place, "mistaken"))
    refusal(place.engineer.post("/v1/rollback", json={"reason": "?"}), 409, "nothing_before")
    store = place.service.baton.store
    assert ModelLines(store).previous(place.name) is None
    with store.read() as connection:
        shown = load_dashboard(
            connection, place.name, restore(store, place.name).policy, 7, time.time()
        )
    assert [switch["position"] for switch in shown.switches] == [2]


def test_challengers_and_the_predecessor_leave_it_out_too(place: Place) -> None:
    lesson(place, "kept")
    place.engineer.posted("/v1/challengers", {"reason": "?", "recipe": "adagrad-4"})
    jobs = maintenance(place)
    jobs.build_challengers()
    store, head = place.service.baton.store, standing(place)["position"]
    mistake = lesson(place, "mistaken")
    (challenger,) = jobs._challengers.open(place.name, mistake["position"])
    assert challenger.model_state.position == mistake["position"] > head
    taken_back(place, mistake)
    (challenger,) = jobs._challengers.open(place.name, standing(place)["position"])
    assert mistake["position"] in challenger.model_state.without.positions
    request = challenger_requests.ChallengerRequest("again", "me", recipe="adagrad-4?rate=0.2")
    with store.write() as connection:
        challenger_requests.open_challenger(connection, place.name, request)
    jobs.build_challengers()
    assert (
        mistake["position"]
        in jobs._challengers.open(place.name, head)[-1].model_state.without.positions
    )


def test_decisions_of_before_and_after_are_made_again_to_the_bit(place: Place) -> None:
    lesson(place, "kept")
    mistake = lesson(place, "mistaken")
    decided = [place.bot.decided("a", "m", "the parcel is not mistaken")]
    taken_back(place, mistake)
    decided.append(place.bot.decided("b", "m", "the parcel is not mistaken"))
    assert decided[0]["probability"] != decided[1]["probability"]
    for decision in decided:
        again = place.agent.got(f"/v1/decisions/{decision['decision_id']}/replay")
        assert again["identical"] is True


def test_a_rollback_after_an_undo_goes_to_the_line_before(place: Place) -> None:
    lesson(place, "kept")
    place.engineer.posted("/v1/challengers", {"reason": "?", "recipe": "adagrad-4"})
    jobs = maintenance(place)
    jobs.build_challengers()
    version = place.engineer.got("/v1/versions")["challengers"][0]["version"]
    place.engineer.posted(f"/v1/versions/{version}/promote", {"reason": "try"})
    taken_back(place, lesson(place, "mistaken"))
    back = place.engineer.posted("/v1/rollback", {"reason": "worse"})
    assert back["version"] != version


def test_every_replica_forgets_it_and_so_does_one_that_starts_later(tmp_path: Path) -> None:
    with installation(tmp_path) as home:
        first, second = home.serve(), home.serve()
        place = home.workspace("undone", first)
        with place.caller("engineer", first) as one, place.caller("engineer", second) as other:
            for number in range(6):
                teach(one, f"c{number}", number)
            mistake = teach(one, "mistaken", 2, verdict="missed")
            until(lambda: other.standing["position"] >= mistake["position"], "both have learned it")
            learned = other.standing["digest"]
            assert one.delete(f"/v1/outcomes/{mistake['id']}")["effect"] == "gone"
            head = len(place.entries())
            until(lambda: other.standing["position"] >= head, "the other forgets it")
            third = home.serve()
            with place.caller("engineer", third) as late:
                digests = {caller.standing["digest"] for caller in (one, other, late)}
            assert len(digests) == 1
            assert learned not in digests
