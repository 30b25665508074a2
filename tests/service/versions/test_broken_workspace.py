"""One workspace whose ledger cannot be followed never stops the others, and says how to mend it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from learning.ledger import checkpoint
from learning.ledger.model_state import Exclusions
from service.jobs.capacity_update import CapacityUpdate
from service.jobs.maintenance import Maintenance
from service.operations.doctor import examine
from service.outcomes.annotator_review import AnnotatorMonitor
from service.runtime.settings import Settings
from service.store.conversations import reopening_rows
from service.store.database.transactions import Store
from service.store.ledger import entries
from service.versions.model_lines import rebuild
from service.versions.restore import BrokenEntryError, restore
from tests.fork_server import command
from tests.postgres import on_both
from tests.running import until
from tests.service_in_process import ASKS, OTHERS, InProcess, Place, refusal, serving

store_url = on_both("function")


def outcome(conversation: str, **given: Any) -> dict[str, Any]:
    """A ledger entry's body as the first builds wrote it."""
    made = {"outcome_id": f"o-{conversation}", "conversation_id": conversation}
    made |= {"handoff_id": None, "verdict": "missed", "begins": 1, "covers": 1, "escalated": None}
    made |= {"since": None, "labels": [], "source": "complaint", "agent": "bot", "propensity": 1.0}
    return made | {"by_rule": False, "team": None, "team_by": None} | given


def append(store: Store, workspace: str, body: Mapping[str, Any]) -> int:
    with store.write() as connection:
        return entries.append(connection, workspace, "outcome", body, "bot")


def taught(place: Place, *names: str) -> None:
    for number, name in enumerate(names):
        place.bot.decided(name, "m", OTHERS[number])
        place.bot.posted(f"/v1/conversations/{name}/outcome", {"verdict": "missed"})


def baton(home: Path, url: str, *words: str) -> str:
    """What a command that succeeds prints."""
    environ = {**os.environ, "BATON_HOME": str(home), "BATON_DATABASE": url}
    done = command(*words, environ=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def settings(home: Path, url: str) -> Settings:
    return Settings(home=home, database=url, checkpoint_entries=4)


@contextmanager
def again(home: Path, url: str, **more: Any) -> Iterator[InProcess]:
    with serving(home, database=url, poll_seconds=0.02, **more) as service:
        yield service


def test_a_ledger_with_outcomes_of_empty_conversations_is_followed_alike_by_all(
    store_url: str, tmp_path: Path
) -> None:
    """As an older build wrote them, in a race: `covers` 0, before a conversation's first score."""
    with again(tmp_path, store_url) as service:
        place = service.workspace()
        taught(place, "a", "b")
        append(service.baton.store, place.name, outcome("new-1", covers=0))
        append(service.baton.store, place.name, outcome("new-2", covers=0, verdict="fine"))
        place.bot.decided("new-2", "m", ASKS)
        closed = {"workspace": place.name, "conversation_id": "new-2", "length": 0}
        closed |= {"resolution": "resolved", "closed_at": time.time(), "at": 1.0}
        with service.baton.store.write() as connection:
            reopening_rows.add(connection, closed)
        taught(place, "c")
        live = place.engineer.got("/v1/standing")
        store = service.baton.store
        assert checkpoint.digest(restore(store, place.name)) == live["digest"]
        rebuilt = rebuild(store, place.name, "bayes-4", Exclusions())
        assert (rebuilt.position, checkpoint.digest(rebuilt)) == (live["position"], live["digest"])
        keeper = Maintenance(store, settings(tmp_path, store_url))
        for task in (
            keeper.detect_missed,
            keeper.checkpoint,
            keeper.draw_audits,
            keeper.rebuild_corrected,
            keeper.learn_from_silence,
        ):
            task()
        assert keeper.evaluate_one(place.name).position == live["position"]
        assert all(body["source"] != "returned" for body in place.ledger())
    with again(tmp_path, store_url) as service:
        place = Place(service, place.name, place.keys)
        assert place.engineer.got("/v1/standing")["digest"] == live["digest"]
        place.bot.decided("d", "m", OTHERS[4])


def test_the_others_are_served_and_the_broken_one_says_what_to_do(
    store_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with again(tmp_path, store_url) as service:
        whole, place = service.workspace(name="zebra"), service.workspace(name="broken")
        taught(whole, "a")
        taught(place, "a", "b")
        place.bot.decided("c", "m", OTHERS[3])
        position = append(service.baton.store, place.name, outcome("c", verdict="labels", labels=7))
        until(lambda: service.baton.engine.broken() == ["broken"], "it is noticed")
        _others_go_on(service, whole, place, "while it runs")
    assert "workspace_broken" in "".join(capfd.readouterr())
    with again(tmp_path, store_url) as service:
        whole, place = (Place(service, one.name, one.keys) for one in (whole, place))
        _others_go_on(service, whole, place, "from a start")
        _jobs_pass_over_it(service, whole, place)
        found = [one for one in examine(service.baton.settings) if "workspace broken" in one.what]
        wrong = [one for one in found if not one.ok]
        assert f"entry {position} of the ledger, outcome" in wrong[0].what
        command = wrong[0].mend.split("`")[1]
        assert command.startswith(f"baton rebuild --from-position {position} ")
        said = baton(tmp_path, store_url, "erase", "c", "--yes", "-w", "broken", "--json")
        assert json.loads(said[said.index("{\n") :])["outcomes"] == [position]
        baton(tmp_path, store_url, *command.split()[1:])
        until(lambda: not service.baton.engine.broken(), "it is served again")
        assert place.engineer.got("/v1/standing")["version"] == 2
        place.bot.decided("d", "m", OTHERS[4])
        assert "broken" not in service.caller().got("/readyz")
        assert 'baton_workspace_broken{workspace="broken"} 0.0' in _metrics(service)


def _metrics(service: InProcess) -> str:
    return str(service.caller().get("/metrics").text)


def _others_go_on(service: InProcess, whole: Place, place: Place, name: str) -> None:
    answer = place.bot.score(name, "m", OTHERS[2])
    assert refusal(answer, 503, "workspace_broken")["hint"].startswith("`baton doctor`")
    assert int(answer.headers["retry-after"]) > 1
    whole.bot.decided(name, "m", OTHERS[2])
    whole.bot.posted(f"/v1/conversations/{name}/outcome", {"verdict": "fine"})
    assert whole.engineer.got("/v1/standing")["position"] == len(whole.ledger()) + 2
    ready = service.caller().got("/readyz")
    assert ready == {"ready": True, "why": [], "broken": ["broken"]}
    assert 'baton_workspace_broken{workspace="broken"} 1.0' in _metrics(service)


def _jobs_pass_over_it(service: InProcess, whole: Place, place: Place) -> None:
    store = service.baton.store
    keeper = Maintenance(store, Settings(checkpoint_entries=1, keep_days=1e6))
    for task in (
        keeper.checkpoint,
        keeper.evaluate,
        keeper.rebuild_corrected,
        keeper.remove_old_text,
        keeper.draw_audits,
    ):
        task()
    CapacityUpdate(store).update_prices()
    AnnotatorMonitor(store).review_annotators()
    assert whole.engineer.got("/v1/versions")["versions"][0]["position"] > 2
    with pytest.raises(BrokenEntryError):
        restore(store, place.name)


def test_an_erasure_in_a_broken_workspace_leaves_its_outcomes_out_of_what_mends_it(
    store_url: str, tmp_path: Path
) -> None:
    with again(tmp_path, store_url) as service:
        place, store = service.workspace(), service.baton.store
        taught(place, "a", "b")
        append(store, place.name, outcome("b", verdict="labels", labels=7))
        baton(tmp_path, store_url, "erase", "b", "--yes", "-w", place.name)
        with store.read() as connection:
            assert entries.erased_positions(connection, place.name) == {4, 5}
        rebuilt = rebuild(store, place.name, "bayes-4", Exclusions())
        assert rebuilt.position == 6
