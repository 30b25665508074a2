"""The benches run, say what they promise to say, and are able to find what they look for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from experiments.benchmarks.__main__ import app as benchmarks
from experiments.benchmarks.harness import processes
from experiments.benchmarks.harness.empty_route import application
from experiments.benchmarks.harness.load_generator import Load, Order
from experiments.benchmarks.harness.result_table import markdown
from experiments.benchmarks.harness.traffic_mix import PLAYERS, WORDS, texts
from experiments.benchmarks.service_speed import replicas, soak
from experiments.benchmarks.service_speed.hostile import hostile_load
from experiments.benchmarks.service_speed.hostile.attacks import attacks
from learning.models.recipes import DEFAULT
from service.cli import app as baton
from tests.waiting import LIMIT_SECONDS, until

ROOT = Path(__file__).resolve().parents[3]
OF_USERS = {"score", "freshness", "cost", "learning", "connect", "soak", "hostile", "versions"}
TINY = ("--rounds", "1", "--seconds", "0.3")
SCORE_KEYS = {
    *("store", "connections", "per_second", "p50_ms", "p99_ms", "cpu_us"),
    *("ratio_to_empty", "ratio_to_mlflow", "ratio_to_chantilly", "goal", "reached"),
}


def bench(name: str, *given: str) -> str:
    """What a bench prints on standard output, by whichever command has it."""
    here, words = (baton, ["bench"]) if name in OF_USERS else (benchmarks, [])
    answer = CliRunner().invoke(here, [*words, name, *given], env={"COLUMNS": "250"})
    assert answer.exit_code == 0, (answer.output, answer.exception)
    return answer.stdout


def rows(name: str, *given: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(bench(name, *given, "--json"))
    assert found
    return found


# Each bench, small, with real parts


@pytest.mark.long
@pytest.mark.slow
def test_scores_are_measured_beside_an_empty_route_and_mlflow() -> None:
    given = ("--store", "sqlite", "--connections", "2", "--no-chantilly")
    (row,) = rows("score", *TINY, *given)
    assert row.keys() >= SCORE_KEYS
    assert (row["store"], row["connections"], row["faults"]) == ("sqlite", 2, 0)
    assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert row["per_second"] > 0
    assert row["cpu_us"] > 0
    assert row["ratio_to_empty"] > 0
    assert row["ratio_to_mlflow"] > 0
    assert row["ratio_to_chantilly"] is None


@pytest.mark.long
def test_batches_are_measured_on_postgresql() -> None:
    (row,) = rows("batch", *TINY, "--store", "postgresql")
    assert row["store"] == "postgresql"
    assert row["per_second"] > 0
    assert row["ratio_to_single"] > 0


def test_models_are_measured_by_time_and_accuracy_and_shown_as_a_table() -> None:
    given = ("--rounds", "1", "--conversations", "30", "--data", "simulated")
    found = {row["system"]: row for row in rows("model", *given)}
    assert found["vw"]["total_us"] > 0
    ours = found[f"baton {DEFAULT}"]
    assert ours.keys() >= {"ratio_to_vw", "ratio_to_vw_features", "reached", "auc", "log_loss"}
    table = bench("model", *given)
    assert "AUC" in table
    assert DEFAULT in table


@pytest.mark.long
def test_freshness_is_measured_at_both_replicas() -> None:
    found = rows("freshness", "--outcomes", "3", "--connections", "1", "--store", "postgresql")
    assert [row["replica"] for row in found] == ["same", "another"]
    for row in found:
        assert row["outcomes"] == 3
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]


@pytest.mark.long
def test_events_are_measured_beside_scores_and_to_their_handover() -> None:
    given = ("--rounds", "1", "--seconds", "0.5", "--handovers", "10", "--store", "sqlite")
    (found,) = rows("connect", *given)
    assert found["ratio"] > 0
    assert found["handovers"] == 10
    assert 0 < found["p50_ms"] <= found["p99_ms"]


@pytest.mark.long
def test_recovery_is_measured_by_size_and_comes_to_one_digest() -> None:
    given = ("--rounds", "2", "--entries", "600", "--store", "sqlite")
    small, large = rows("recovery", *given)
    assert (small["entries"], large["entries"]) == (102, 600)
    assert large["ready_s"] > 0
    assert [small["equal"], large["equal"]] == ["equal", "equal"]


@pytest.mark.long
def test_two_replicas_lose_and_double_nothing_and_hold_one_model() -> None:
    given = ("--replicas", "1", "--replicas", "2")
    for row in rows("replicas", *TINY, *given):
        assert row["acknowledged"] > 0
        assert (row["lost"], row["doubled"], row["differing"], row["faults"]) == (0, 0, 0, 0)
        assert row["equal"] == "equal"


@pytest.mark.long
def test_the_console_is_measured_beside_a_short_talk_and_the_smallest_page() -> None:
    (row,) = rows("console", *TINY, "--store", "sqlite", "--followers", "3")
    assert 0 < row["turns_p50_ms"] <= row["turns_p95_ms"]
    assert row["turns_ratio"] > 0
    assert row["today_paint_ratio"] is None or row["today_paint_ratio"] > 0


@pytest.mark.long
def test_a_soak_has_a_row_for_each_slice_of_its_time_and_no_error() -> None:
    found = rows("soak", "--minutes", "0.06", "--per-second", "20")
    assert len(found) == 3
    assert sum(row["faults"] for row in found) == 0, found
    for row in found:
        assert row["per_second"] > 0
        assert row["serve_mib"] > 10
        assert row["jobs_mib"] > 10


@pytest.mark.slow
@pytest.mark.long
def test_beside_attackers_normal_load_has_no_error_and_loses_nothing() -> None:
    found = rows("hostile", "--minutes", "0.1", "--per-second", "30")
    assert [row["phase"] for row in found] == ["quiet", "hostile", "hostile"]
    for row in found:
        assert row.keys() >= hostile_load.COLUMNS.keys()
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["faults"] == 0, found
        assert row["acknowledged"] > 0
        assert (row["lost"], row["doubled"], row["differing"]) == (0, 0, 0)
        assert (row["5xx"], row["unanswered"], row["wrong"]) == (0, 0, 0), found
    assert sum(row["2xx"] for row in found) > 0
    assert sum(row["4xx"] for row in found) > 0


@pytest.mark.long
def test_costs_are_of_a_message_an_outcome_and_a_checkpoint() -> None:
    message, outcome, checkpoint = rows("cost", *TINY, "--store", "sqlite")
    assert [row["what"] for row in (message, outcome, checkpoint)] == [
        "message",
        "outcome",
        "checkpoint",
    ]
    assert message["serve_cpu_us"] > 0
    assert checkpoint["bytes"] > 1000


def test_an_unknown_store_is_refused_by_name() -> None:
    answer = CliRunner().invoke(baton, ["bench", "score", "--store", "oracle"])
    assert answer.exit_code == 2
    assert "oracle" in answer.output


# What the benches stand on


def test_the_yardstick_answers_what_the_load_generator_sends() -> None:
    """If it refused it, it would measure how quick a refusal is."""
    player = PLAYERS["score"]({"key": "k", "name": "n"}, 0)
    body = next(player).partition(b"\r\n\r\n")[2]
    answer = TestClient(application()).post("/v1/score", json=json.loads(body))
    assert answer.status_code == 200
    assert answer.json()["action"] == "continue"


@pytest.mark.parametrize("kind", ["score", "batch"])
def test_no_message_is_ever_sent_twice(kind: str) -> None:
    seen = set()
    for name in ("a", "b"):
        for number in (0, 1):
            player = PLAYERS[kind]({"key": "k", "name": name, "items": 3}, number)
            for request in islice(player, 25):
                body = json.loads(request.partition(b"\r\n\r\n")[2])
                for item in body.get("items", [body]):
                    key = item["conversation_id"], item["message"]["id"]
                    assert key not in seen
                    seen.add(key)
    assert len(seen) == 100 * (3 if kind == "batch" else 1)


def test_messages_have_about_fifteen_words() -> None:
    assert len(texts()) > 300
    assert all(WORDS[0] <= len(text.split()) <= WORDS[1] for text in texts())


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that answers every POST with a status and a decision, and hangs up; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b'{"decision_id":"d1","action":"continue"}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_refusals_are_faults_and_not_throughput() -> None:
    with answering(503) as port, Load() as load:
        found = load.play(Order(port, "score", {"key": "k", "name": "n"}, 2, 0.2))
    assert (found.sent, found.answered) == (0, 0)
    assert found.faults.keys() == {"503"}


def test_a_paced_order_sends_as_many_as_it_says() -> None:
    with answering(200) as port, Load() as load:
        found = load.play(Order(port, "score", {"key": "k", "name": "n"}, 2, 1.0, 40.0))
    assert 30 <= found.answered <= 42
    assert found.faults == {}


def test_every_acknowledged_decision_is_written_down(tmp_path: Path) -> None:
    with answering(200) as port, Load() as load:
        given = {"key": "k", "name": "n", "file": str(tmp_path / "seen")}
        found = load.play(Order(port, "witness", given, 2, 0.2))
    lines = [line for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert len(lines) == found.answered
    assert "n-0-1 u1 d1" in lines


def test_nobody_listening_is_an_error_that_says_so() -> None:
    with Load() as load, pytest.raises(RuntimeError, match="load generator"):
        load.play(Order(processes.free_port(), "score", {"key": "k", "name": "n"}, 1, 0.1))


def test_what_a_bench_starts_ends_with_it(tmp_path: Path) -> None:
    with processes.running(processes.baton(tmp_path)) as serving:
        assert serving.memory_mib() > 10
        assert serving.cpu_seconds() > 0
        group = serving.process.pid
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


@pytest.mark.slow
def test_a_bench_that_is_terminated_ends_what_it_started(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "bench", "soak", "--minutes", "5"]
    with (tmp_path / "log").open("wb") as log:
        bench = psutil.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    started: list[psutil.Process] = []

    def all_started() -> bool:
        assert bench.poll() is None, (tmp_path / "log").read_text()
        started[:] = bench.children(recursive=True)
        return len(started) >= 3

    until(all_started, "the API, jobs and the load generator")
    bench.terminate()
    assert bench.wait(LIMIT_SECONDS) != 0
    left = psutil.wait_procs(started, timeout=LIMIT_SECONDS)[1]
    assert [one for one in left if one.is_running()] == []


def test_a_process_that_does_not_come_up_shows_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(processes.NotRunningError, match="BATON_DATABASE names no"),
        processes.running(processes.baton(tmp_path, database="nonsense")),
    ):
        pass


# What the benches look for, they find


def test_lost_doubled_and_differing_decisions_are_told_apart() -> None:
    acknowledged = {
        ("c", "u1"): {"d1"},
        ("c", "u2"): {"d2"},
        ("c", "u3"): {"d3", "d4"},
        ("c", "u4"): {"d5"},
    }
    stored = [("c", "u1", "d1"), ("c", "u3", "d3"), ("c", "u4", "d5"), ("c", "u4", "d6")]
    found = replicas.compare_decisions(acknowledged, stored)
    assert found == {"acknowledged": 4, "lost": 1, "doubled": 1, "differing": 2}


@pytest.mark.parametrize("what", ["nothing", "memory", "latency", "tail", "fault"])
def test_a_soak_that_grows_slows_or_fails_is_not_passed(what: str) -> None:
    made = [
        {
            "minute": float(minute),
            "faults": int(what == "fault" and minute == 7),
            "serve_mib": 100.0 + (2.0 * minute if what == "memory" else 0.0),
            "jobs_mib": 80.0,
            "p50_ms": 2.0 + (3 * minute if what == "latency" else 0),
            "p99_ms": 9.0 + (9 * minute if what == "tail" else 0),
        }
        for minute in range(1, 13)
    ]
    assert soak.verdict(made)["reached"] is (what == "nothing")


BAD = {"p99_ms": 40.0, "faults": 1, "lost": 1, "doubled": 1, "5xx": 1, "wrong": 1, "serve_mib": 2e3}


@pytest.mark.parametrize("what", ["nothing", *BAD])
def test_beside_attackers_what_is_slow_lost_or_wrong_is_not_passed(what: str) -> None:
    none = ("faults", "lost", "doubled", "differing", "5xx", "unanswered", "wrong")
    fine = dict.fromkeys(none, 0) | {"acknowledged": 9}
    quiet = fine | {"phase": "quiet", "p99_ms": 10.0, "serve_mib": 200.0}
    hostile = quiet | {"phase": "hostile"} | ({what: BAD[what]} if what in BAD else {})
    shown = hostile_load.verdict([quiet, hostile, hostile], fine)
    assert shown["reached"] is (what == "nothing")


def test_each_attack_says_which_answers_are_right_and_how_long_its_bodies_are() -> None:
    for attack in attacks("k", "victim", hostile_load.HostilePlan()):
        requests = list(islice(attack.requests, 14))
        assert len(requests) == 14
        for data, right in requests:
            top, _, body = data.partition(b"\r\n\r\n")
            assert f"Content-Length: {len(body)}".encode() in top
            assert right


def test_a_missed_goal_is_shown_as_missed() -> None:
    shown = markdown([{"a": 1234.5, "b": False, "c": None}], {"a": "A", "b": "", "c": "C"})
    assert shown.splitlines()[-1] == "| 1 234 | missed | - |"
