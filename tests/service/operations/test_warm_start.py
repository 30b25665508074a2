"""A warm start teaches a workspace what another system knew: all of it, once, and nothing else."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from experiments.datasets.streams import StreamError, episode_line, read
from experiments.replay import play
from experiments.simulation.world import episodes
from learning.ledger import checkpoint
from learning.ledger.model_state import Exclusions, ModelState
from service.jobs.maintenance import Maintenance
from service.operations.backup import export_conversations
from service.operations.bootstrap import prepare
from service.operations.warm_start import (
    BadHistory,
    HistoryFile,
    WarmStartResult,
    check,
    warm_start,
)
from service.runtime.errors import Contradiction
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from service.versions.evaluation.judged_context import JudgedOutcomes
from service.versions.model_lines import rebuild
from service.versions.restore import restore
from service.versions.switches import begin_workspace
from tests.postgres import on_both
from tests.running import NOWHERE, ROOT, installation, until
from tests.service_in_process import InProcess, refusal, serving
from tests.waiting import LIMIT_SECONDS

RECIPE = "bayes-4"
HISTORY = list(episodes(5, 40))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "history.jsonl"
    path.write_text("".join(episode_line(one) + "\n" for one in HISTORY))
    return path


store_url = on_both()
NAMES = itertools.count(1)


class Here:
    """A new workspace on a store."""

    def __init__(self, store: Store) -> None:
        self.store, self.name = store, f"w{next(NAMES)}"
        with store.write() as connection:
            begin_workspace(connection, self.name, "live", "test", RECIPE)

    def warm(self, path: Path) -> WarmStartResult:
        check(self.store, self.name, HistoryFile(path), nothing)
        return self.written(path)

    def written(self, path: Path) -> WarmStartResult:
        return warm_start(self.store, self.name, HistoryFile(path), actor="test", per_second=0)

    @property
    def standing(self) -> ModelState:
        return restore(self.store, self.name)


@pytest.fixture
def here(store_url: str) -> Iterator[Here]:
    store = Store(store_url)
    store.migrate()
    yield Here(store)
    store.close()


def nothing(_: int) -> None:
    """No progress is shown."""


def as_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_warm_start_makes_the_model_that_a_replay_makes_and_done_again_it_is_done_once(
    here: Here, file: Path
) -> None:
    found = here.warm(file)
    assert (found.outcomes, found.there, found.untold) == (40, 0, 0)
    assert found.lessons == sum(len(one.labels) for one in HISTORY)
    played = play.bare(read(file), recipe=RECIPE).report
    warmed = here.standing
    assert (checkpoint.digest(warmed), warmed.position) == (played.digest, played.position)
    again = here.warm(file)
    assert (again.outcomes, again.there, again.position) == (0, 40, found.position)
    without = rebuild(here.store, here.name, RECIPE, Exclusions(source="history"))
    assert checkpoint.digest(without) == checkpoint.digest(play.new_model_state(RECIPE))


def test_parquet_and_json_lines_teach_the_same(here: Here, file: Path, tmp_path: Path) -> None:
    here.warm(as_parquet(tmp_path / "history.parquet", records(file)))
    assert checkpoint.digest(here.standing) == play.bare(read(file), recipe=RECIPE).report.digest
    assert here.warm(file).there == 40


def test_a_parquet_file_may_have_a_message_in_each_row(tmp_path: Path, file: Path) -> None:
    rows = []
    for record in records(file):
        labels = {one["message_id"]: one["label"] for one in record["labels"]}
        for message in record["messages"]:
            row = {name: message.get(name) for name in ("id", "author", "text", "at", "language")}
            row |= {"conversation_id": record["conversation_id"], "label": labels.get(row["id"])}
            row["bot"] = json.dumps(message["bot"]) if message.get("bot") else None
            rows.append(row | {"attributes": json.dumps(message.get("attributes") or {})})
    flat = as_parquet(tmp_path / "flat.parquet", rows)
    assert [episode_line(one) for one in read(flat)] == [episode_line(one) for one in read(file)]
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(flat.read_bytes()[:-40])
    with pytest.raises(StreamError, match="is not a whole Parquet file"):
        list(read(cut))


def test_bad_lines_are_named_by_number_and_field_and_nothing_is_written(
    here: Here, file: Path, tmp_path: Path
) -> None:
    lines = records(file)
    del lines[2]["messages"][0]["text"]
    lines[4]["messages"][1]["text"] = "x" * 20_001
    lines[6]["labels"][0]["message_id"] = "none"
    lines[8]["conversation_id"] = lines[0]["conversation_id"]
    lines[9]["messages"][0]["attributes"] = {"deep": {"er": 1}}
    lines[10]["messages"][0]["text"] = "nul \0"
    bad = tmp_path / "bad.jsonl"
    bad.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(BadHistory) as told:
        here.warm(bad)
    said = str(told.value)
    for expected in (
        "nothing was written",
        "line 3, read as baton: field messages[0].text is missing",
        "line 5: field messages[1].text has 20001 characters; cut it to 20000",
        "line 7, read as baton: field labels[0].message_id is 'none'",
        "line 9: conversation",
        "line 10: field messages[0].attributes.deep is neither",
        "line 11: field messages[0] holds the character U+0000",
    ):
        assert expected in said
    assert here.standing.position == 2


@pytest.mark.parametrize("line", ["[" * 100_000, '{"at": ' + "1" * 5000 + "}"])
def test_a_line_that_no_parser_takes_is_named_by_its_number(
    here: Here, tmp_path: Path, line: str
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(f"\n{line}\n")
    with pytest.raises(StreamError, match="line 2: nests too deeply, or has a number of too many"):
        here.warm(bad)


def test_a_conversation_that_is_there_with_other_content_is_named_and_left_alone(
    here: Here, file: Path
) -> None:
    here.warm(file)
    lines = records(file)
    lines[5]["messages"][0]["text"] = "something else"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(BadHistory, match=r"line 6: field conversation_id: .* other content"):
        here.warm(file)
    with pytest.raises(Contradiction, match="is there with other content"):
        here.written(file)
    assert here.standing.position == 42


def test_killed_half_way_it_is_finished_by_the_same_command(file: Path, tmp_path: Path) -> None:
    with installation(tmp_path / "home") as home:
        settings = Settings(home=home.folder, recipe=RECIPE)
        store = Store(settings.database_url)
        prepare(settings, store)
        long = list(episodes(7, 300))
        file.write_text("".join(episode_line(one) + "\n" for one in long))
        words = [sys.executable, "-m", "service", "warm-start", str(file), "--per-second", "200"]
        environ = home._environ({})
        process = subprocess.Popen(words, cwd=ROOT, env=environ, stderr=subprocess.DEVNULL)

        def outcomes() -> int:
            return home.rows("SELECT count(*) AS n FROM ledger WHERE kind = 'outcome'")[0]["n"]

        until(outcomes, "some are written", every=0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(LIMIT_SECONDS)
        some = outcomes()
        assert 0 < some < 300
        found = home.command("warm-start", str(file), "--per-second", "0")
        assert (found["there"], found["outcomes"]) == (some, 300 - some)
        assert home.rows("SELECT max(position) AS n FROM ledger") == [{"n": 302}]
        played = play.bare(read(file), recipe=RECIPE).report
        assert checkpoint.digest(restore(store, "default")) == played.digest
        store.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("home"), mlflow_url=NOWHERE) as service:
        yield service


def test_a_service_learns_it_while_it_serves_and_its_rates_do_not_count_it(
    service: InProcess, file: Path
) -> None:
    place = service.workspace()
    before = place.bot.decided("c", "m1", "where is my parcel")["probability"]
    rates = place.engineer.got("/v1/quality")
    store = service.baton.store
    warm_start(store, place.name, HistoryFile(file), actor="test", per_second=0)
    until(lambda: place.engineer.got("/v1/standing")["position"] >= 42, "learned", every=0.05)
    assert place.bot.decided("d", "m1", "where is my parcel")["probability"] != before
    bodies = place.ledger()
    assert {(b["source"], b["agent"], b["propensity"]) for b in bodies} == {
        ("history",) * 2 + (1.0,)
    }
    upkeep = Maintenance(store, Settings())
    upkeep.draw_audits()
    report = upkeep.evaluate_one(place.name)
    assert (report.position, report.verdict) == (42, "keep")
    facts = JudgedOutcomes(store).newest(place.name, 42)
    assert {fact.needed for fact in facts.values()} == {None}
    after = place.engineer.got("/v1/quality")
    assert after["conversations"]["all"] == rates["conversations"]["all"] + 1
    assert after["conversations"]["closed"] == rates["conversations"]["closed"]
    name = HISTORY[0].id
    shown = place.agent.got(f"/v1/conversations/{name}")
    assert shown["outcomes"][0]["note"] == "history.jsonl, line 1"
    refusal(place.bot.score(name, "new", "and now?"), 409, "conversation_is_history")
    found = list(export_conversations(store, place.name))
    assert sum(1 for line in found if '"labels"' in line) == 40
