"""A database of each released schema is opened, brought up to this build's, and served from."""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from experiments.build_info import build_id
from learning.ledger import checkpoint
from learning.models.recipes import UnknownRecipe, get_recipe
from service.jobs.maintenance import Maintenance
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from service.store.ledger import entries, version_rows
from service.versions.restore import restore
from service.web.access.keys import add_key, new_secret
from tests.make_stored_database import BYTES_MAX, FOLDER, counted
from tests.service.store.test_migrations import revisions
from tests.service_in_process import ASKS, QUIET, Caller, InProcess, serving

DECISIONS = 12
"""So many old decisions of a workspace are made again."""


STORED = sorted(path.name.split(".")[0] for path in FOLDER.glob("*.sqlite3.gz"))
"""The revisions that a build was released with."""


def test_there_is_a_stored_database_of_the_newest_revision_and_each_is_small() -> None:
    assert set(STORED) <= set(revisions())
    assert STORED[-1] == max(revisions())
    assert all(path.stat().st_size < BYTES_MAX for path in FOLDER.glob("*.sqlite3.gz"))


@pytest.fixture(params=STORED)
def held(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """What a stored database holds, by what was written beside it; itself it is in the home."""
    data = gzip.decompress((FOLDER / f"{request.param}.sqlite3.gz").read_bytes())
    (tmp_path / "baton.sqlite3").write_bytes(data)
    found: dict[str, Any] = json.loads((FOLDER / f"{request.param}.json").read_text())
    return found


def is_known(recipe: str) -> bool:
    """Whether this build still has a recipe; of others only the bytes are verified."""
    try:
        return get_recipe(recipe).name == recipe
    except UnknownRecipe:
        return False


def test_what_it_held_is_there_after_the_upgrade_to_the_byte(
    held: dict[str, Any], tmp_path: Path
) -> None:
    store = Store(Settings(home=tmp_path).database_url)
    store.migrate()
    store.check()
    assert store.schema().wrong == ()
    rows = counted(tmp_path / "baton.sqlite3")
    assert held["rows"].items() <= rows.items()
    assert sum(len(one["versions"]) for one in held["workspaces"].values()) == rows["version"] > 2
    for name, workspace in held["workspaces"].items():
        for one in workspace["versions"]:
            with store.read() as connection:
                state = version_rows.state(connection, name, one["number"]) or b""
            assert hashlib.sha256(state).hexdigest() == one["sha256"]
            if is_known(one["recipe"]):
                loaded = checkpoint.load(state)
                assert (checkpoint.digest(loaded), loaded.position) == (
                    one["digest"],
                    one["position"],
                )
        standing = restore(store, name)
        assert standing.position == workspace["position"]
        recipes = {one["recipe"] for one in workspace["versions"]}
        assert standing.provisional is not any(map(is_known, recipes))
        if held["build"] == build_id():
            assert checkpoint.digest(standing) == workspace["digest"]
    store.close()


def test_a_service_on_it_scores_learns_and_makes_old_decisions_again(
    held: dict[str, Any], tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "baton.sqlite3")) as connection:
        old = {
            name: connection.execute(
                "SELECT id, probability FROM decision WHERE workspace = ? AND position <= ? "
                "AND probability IS NOT NULL ORDER BY position DESC, id LIMIT ?",
                (name, workspace["position"], DECISIONS),
            ).fetchall()
            for name, workspace in held["workspaces"].items()
        }
    with serving(tmp_path) as service:
        assert service.caller().got("/readyz") == {"ready": True, "why": []}
        for name, workspace in held["workspaces"].items():
            keys = keys_of(service, name)
            bot, agent = service.caller(keys["bot"]), service.caller(keys["agent"])
            assert len(old[name]) == DECISIONS
            for decision, probability in old[name]:
                made_again(agent, decision, probability, held["build"])
            bot.decided("after the upgrade", "m1", QUIET)
            decided = bot.decided("after the upgrade", "m2", ASKS)
            assert decided["action"] == "escalate"
            path = f"/v1/handoffs/{decided['handoff']['id']}/outcome"
            outcome = agent.posted(path, {"verdict": "needed"})
            assert outcome["position"] == workspace["position"] + 1
            replay = agent.got(f"/v1/decisions/{decided['decision_id']}/replay")
            assert replay["identical"] is True


def made_again(agent: Caller, decision: str, probability: float, build: str) -> None:
    """Identical, or unknown where another build made it: never found to differ."""
    assert agent.got(f"/v1/decisions/{decision}")["probability"] == probability
    replay = agent.got(f"/v1/decisions/{decision}/replay")
    assert replay["identical"] is True or (
        replay["identical"] is None and build in replay["why"] and build != build_id()
    ), replay


def keys_of(service: InProcess, workspace: str) -> dict[str, str]:
    """Keys of a workspace: nobody's are stored with it."""
    made = {role: new_secret() for role in ("bot", "agent")}
    with service.baton.store.write() as connection:
        for role, secret in made.items():
            add_key(connection, workspace, role, role, secret)
    return made


def test_jobs_learn_a_line_of_an_unknown_recipe_anew_and_switch_to_it(
    held: dict[str, Any], tmp_path: Path
) -> None:
    """The serving line's recipe is another build's: this build's is retrained on the whole ledger
    and serves; of so few outcomes it is the very model that served provisionally, but for what a
    rebuild leaves out: an outcome that a later one replaced.
    """
    settings = Settings(home=tmp_path)
    store = Store(settings.database_url)
    store.migrate()
    provisional = {name: restore(store, name) for name in held["workspaces"]}
    Maintenance(store, settings).upgrade()
    for name, before in provisional.items():
        served = restore(store, name)
        with store.read() as connection:
            switch = entries.switches(connection, name)[-1]
            ledger = entries.tail(connection, name, 0, 10_000)
        assert not served.provisional
        assert (switch.actor == "upgrade") is before.provisional
        assert get_recipe(served.recipe).name == served.recipe
        replaced = any("replaces" in entry.body for entry in ledger)
        if before.provisional and not replaced:
            assert checkpoint.digest(served) == checkpoint.digest(before)
    store.close()
