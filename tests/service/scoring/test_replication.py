"""Every process that stands at a position holds the same model, however it came there."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from experiments.replay.client import RefusedError, path_of
from learning.ledger import checkpoint
from learning.ledger.model_state import replay_entries
from learning.models.recipes import DEFAULT
from service.jobs.maintenance import Maintenance
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from service.versions.model_lines import ModelLines
from service.versions.restore import restore
from tests.running import Home, Place, Process, installation, teach, until


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with installation(tmp_path_factory.mktemp("replication")) as home:
        yield home


@pytest.fixture(scope="module")
def first(home: Home) -> Process:
    return home.serve()


@pytest.fixture(scope="module")
def second(home: Home, first: Process) -> Process:
    return home.serve()


def store_of(home: Home) -> Store:
    return Store(f"sqlite:///{home.folder / 'baton.sqlite3'}")


def settled(place: Place, process: Process, position: int) -> str:
    with place.caller("engineer", process) as engineer:
        until(lambda: engineer.standing["position"] >= position, "learned", every=0.02)
        found = engineer.standing
    assert found["position"] == position
    return str(found["digest"])


@pytest.mark.parametrize("recipe", ["bayes-4", DEFAULT])
def test_two_processes_that_both_take_outcomes_hold_one_model(
    home: Home, first: Process, second: Process, recipe: str
) -> None:
    place = home.workspace(f"both-{recipe}", first, recipe=recipe)

    def talk(process: Process, name: str) -> None:
        with place.caller("bot", process) as bot:
            for number in range(15):
                teach(bot, f"{name}{number}", number)

    talkers = [
        threading.Thread(target=talk, args=(process, name))
        for process, name in ((first, "a"), (second, "b"))
    ]
    for talker in talkers:
        talker.start()
    for talker in talkers:
        talker.join()
    head = len(place.entries())
    assert head == 32
    digests = {settled(place, process, head) for process in (first, second)}
    assert digests == {place.bare_digest(recipe=recipe)}


def test_an_outcome_posted_at_one_process_is_learned_by_the_other_while_it_idles(
    home: Home, first: Process, second: Process
) -> None:
    """How soon, `baton bench freshness` measures; by default it looks five times a second."""
    place = home.workspace("seen", first)
    with place.caller("bot", first) as bot, place.caller("engineer", second) as engineer:
        assert engineer.standing["position"] == 2
        for number in range(7):
            position = teach(bot, f"c{number}", number)["position"]
            until(lambda wanted=position: engineer.standing["position"] >= wanted, "learned")


@pytest.mark.long
def test_restarting_gives_the_same_model_while_outcomes_go_on_elsewhere(
    home: Home, first: Process, second: Process
) -> None:
    place = home.workspace("restarted", first)
    done = threading.Event()

    def talk() -> None:
        with place.caller("bot", first) as bot:
            number = 0
            while not done.is_set():
                teach(bot, f"c{number}", number)
                number += 1

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        for end in (second.stop, second.kill):
            end()
            second.start().ready()
            with place.caller("engineer", second) as engineer:
                assert engineer.standing["position"] > 2
    finally:
        done.set()
        talker.join()
    head = len(place.entries())
    assert settled(place, first, head) == settled(place, second, head) == place.bare_digest()


def test_standing_at_any_version_and_learning_the_tail_is_having_been_there_all_along(
    home: Home, first: Process
) -> None:
    place = home.workspace("versions", first)
    store = store_of(home)
    upkeep = Maintenance(store, Settings(home=home.folder))
    lines = ModelLines(store)
    with place.caller("bot", first) as bot:
        for number in range(24):
            teach(bot, f"c{number}", number)
            if number % 6 == 5:
                upkeep.save(place.name, lines.champion(place.name))
    entries = place.entries()
    versions = home.rows("SELECT * FROM version WHERE workspace = ? ORDER BY number", place.name)
    assert [row["position"] for row in versions] == [0, 8, 14, 20, 26]
    expected = settled(place, first, len(entries))
    for row in versions:
        standing = checkpoint.load(row["state"])
        assert checkpoint.digest(standing) == row["digest"]
        later = entries[standing.position :]
        replay_entries(standing, later, place.transcript, through_switches=True)
        assert checkpoint.digest(standing) == expected
    for position in (2, 3, 8, 13, 14, len(entries)):
        found = restore(store, place.name, until=position)
        again = place.bare_digest() if position == len(entries) else None
        assert found.position == position
        assert again in (None, checkpoint.digest(found))
    store.close()


@pytest.mark.parametrize("seed", [1])
def test_every_position_that_was_ever_served_can_be_stood_at_again(
    home: Home, first: Process, second: Process, seed: int
) -> None:
    """Through outcomes, corrections, policies, promotions, rollbacks, rebuilds, and checkpoints
    that are saved late, when another line serves already.
    """
    place = home.workspace(f"history-{seed}", first)
    store = store_of(home)
    upkeep, draw = (
        Maintenance(store, Settings(home=home.folder, corrections=1)),
        random.Random(seed),
    )
    served: dict[int, str] = {}
    taught: list[dict[str, Any]] = []
    late = None
    with place.caller("engineer", first) as client, place.caller("bot", second) as other:

        def numbers() -> list[int]:
            return [row["number"] for row in client.get("/v1/versions")["versions"]]

        for turn in range(60):
            do = draw.choice(
                ["teach"] * 5 + ["correct", "policy", "save", "late", "switch", "mend"]
            )
            if do == "teach" or not taught:
                taught.append(teach((client, other)[turn % 2], f"c{turn}", turn))
            elif do == "correct":
                verdict = draw.choice(["missed", "fine", "unknowable"])
                client.put(path_of("outcomes", draw.choice(taught)["id"]), {"verdict": verdict})
            elif do == "policy":
                policy = client.get("/v1/policy") | {"waiting_seconds": 60.0 + turn}
                client.put("/v1/policy", policy)
            elif do == "save":
                upkeep.save(place.name, ModelLines(store).champion(place.name))
            elif do == "late":
                if late is not None:
                    upkeep.save(place.name, late)
                late = ModelLines(store).champion(place.name)
            elif do == "switch":
                to = draw.choice(numbers())
                if draw.random() < 0.5:
                    client.post("/v1/rollback", {"to": to, "reason": "drawn"})
                else:
                    client.post(f"/v1/versions/{to}/promote", {"reason": "drawn"})
            else:
                upkeep.rebuild_corrected()
            head = len(place.entries())
            served[head] = settled(place, first, head)
            assert settled(place, second, head) == served[head]
    switches = [entry for entry in place.entries() if entry.kind == "switch"]
    assert len(switches) > 3
    for position, found in served.items():
        again = restore(store, place.name, until=position)
        assert again.position == position
        assert checkpoint.digest(again) == found, (seed, position)
    for one in (first, second):
        one.kill()
        one.start().ready()
        assert settled(place, one, max(served)) == served[max(served)]
    store.close()


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(
    home: Home, first: Process
) -> None:
    place = home.workspace("damaged", first)
    store = store_of(home)
    upkeep, lines = Maintenance(store, Settings(home=home.folder)), ModelLines(store)
    with place.caller("bot", first) as bot:
        for number in range(8):
            teach(bot, f"c{number}", number)
            upkeep.save(place.name, lines.champion(place.name))
    with closing(sqlite3.connect(home.folder / "baton.sqlite3")) as connection:
        for number, damage in ((9, b""), (8, b"no npz"), (7, None)):
            found = "SELECT state FROM version WHERE workspace = 'damaged' AND number = ?"
            state = bytearray(connection.execute(found, (number,)).fetchone()[0])
            state[len(state) // 2] ^= 0xFF
            changed = bytes(state) if damage is None else damage
            sql = "UPDATE version SET state = ? WHERE workspace = 'damaged' AND number = ?"
            connection.execute(sql, (changed, number))
        connection.commit()
    assert checkpoint.digest(restore(store, place.name)) == place.bare_digest()
    store.close()


@pytest.mark.long
def test_an_entry_that_breaks_in_the_middle_is_never_half_learned(
    home: Home, first: Process
) -> None:
    """Damaged by hand in the ledger, then mended: scoring goes on, and so does learning. Nothing is
    decided by half a lesson meanwhile.
    """
    place = home.workspace("broken", first)
    find = "SELECT body FROM ledger WHERE workspace = ? AND position = ?"
    put = "UPDATE ledger SET body = ? WHERE workspace = ? AND position = ?"
    with (
        place.caller("bot", first, 3) as bot,
        place.caller("engineer", first) as engineer,
    ):
        for number in range(4):
            teach(bot, f"c{number}", number)
        for number in range(3):
            bot.score("late", f"m{number}", f"where is it {number}")
        labels = [{"message_id": f"m{n}", "label": 1.0, "weight": 1.0} for n in range(3)]
        position = engineer.post("/v1/conversations/late/outcome", {"labels": labels})["position"]
        whole = settled(place, first, position)
        first.stop()
        (good,) = home.rows(find, place.name, position)
        damaged = json.loads(good["body"])
        damaged["labels"][1][1] = 7.0
        home.change(put, json.dumps(damaged), place.name, position)
        home.change("UPDATE workspace SET head = head - 1 WHERE id = ?", place.name)
        first.start().ready()
        before = engineer.standing
        assert before["position"] == position - 1
        home.change("UPDATE workspace SET head = head + 1 WHERE id = ?", place.name)
        until(lambda: "not_learned" in first.said, "the entry is come upon")
        with place.caller("bot", first, 0.0) as hasty, pytest.raises(RefusedError) as refused:
            hasty.score("meanwhile", "m0", "half of it is learned")
        assert refused.value.status == 503
        assert refused.value.code in {"restanding", "workspace_broken"}
        home.change(put, good["body"], place.name, position)
        assert settled(place, first, position) == whole == place.bare_digest()
        assert bot.score("after", "m0", "and now?")["position"] == position
