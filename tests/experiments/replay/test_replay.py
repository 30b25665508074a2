"""What is true of a replayed stream: honest order, honest figures, and a patient caller."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sklearn import metrics as sk

from experiments.datasets.streams import Episode
from experiments.replay.client import BatonClient, RefusedError, UnreachableError, path_of
from experiments.replay.play import bare, new_model_state, without_system_events
from experiments.replay.stream_measures import StreamMeasures
from learning.conversation.state import Message
from learning.measures.scores import handoff_match

ANGRY = ("this is useless", "you never understand me", "that is wrong again", "i give up on this")
CALM = ("a train to Ghent please", "friday would be fine", "two seats thanks", "that is all")


def spoken(number: int) -> Episode:
    """A conversation of ten turns in which the customers of odd numbers lose their temper."""
    messages, labels = [], []
    for place in range(10):
        author = "user" if place % 2 == 0 else "bot"
        cross = author == "user" and number % 2 == 1 and place >= 4
        said = (ANGRY if cross else CALM)[(number + place) % 4] if author == "user" else "noted"
        messages.append(Message(f"s{number}.{place}", author, said, 1e9 + 30.0 * place))
        if author == "user":
            labels.append((place, float(cross)))
    scored = tuple(place for place, _ in labels)
    return Episode(f"s{number}", tuple(messages), tuple(labels), scored)


def stream(conversations: int = 40) -> list[Episode]:
    return [spoken(number) for number in range(conversations)]


def test_the_figures_are_those_of_the_probabilities_told_before_learning() -> None:
    played = bare(stream())
    report, tally = played.report, played.tally
    assert (report.conversations, report.messages, report.labels) == (40, 400, 200)
    truth = [label > 0.5 for label in tally.labels]
    assert report.measures["auc"] == pytest.approx(sk.roc_auc_score(truth, tally.probabilities))
    assert report.second_half["auc"] == pytest.approx(
        sk.roc_auc_score(truth[100:], tally.probabilities[100:])
    )
    assert report.second_half["log_loss"] < report.measures["log_loss"]
    assert tally.newest_loss(100) == pytest.approx(report.second_half["log_loss"])


def test_it_learns_only_when_a_conversation_has_ended() -> None:
    for last in (0, 2):
        one, other = stream(last + 1), stream(last + 1)
        needed = tuple((place, 1.0) for place, _ in other[last].labels)
        other[last] = replace(other[last], labels=needed)
        assert bare(one).tally.probabilities == bare(other).tally.probabilities


def test_a_replay_in_two_parts_is_the_replay_of_the_whole() -> None:
    whole = bare(stream())
    state = new_model_state()
    first, second = bare(stream()[:15], state=state), bare(stream()[15:], state=state)
    assert first.tally.probabilities + second.tally.probabilities == whole.tally.probabilities
    assert second.report.digest == whole.report.digest
    assert second.report.position == whole.report.position == 42


def test_unlabelled_conversations_are_scored_and_teach_nothing() -> None:
    silent = [replace(episode, labels=()) for episode in stream(3)]
    report = bare(silent).report
    assert (report.labels, report.position) == (0, 2)
    assert report.digest == bare([]).report.digest
    assert report.measures == dict.fromkeys(report.measures)
    assert report.decisions_per_second is not None


def test_the_report_has_the_keys_that_the_design_names() -> None:
    report = bare(stream(4), handoffs=True).report.json()
    assert list(report) == [
        *("conversations", "messages", "labels", "auc", "average_precision", "log_loss", "brier"),
        *("ece", "f1", "decisions_per_second", "position", "digest", "second_half", "gt"),
    ]
    assert list(report["second_half"]) == ["auc", "average_precision", "log_loss", "ece", "f1"]
    assert list(report["gt"]) == ["1", "2", "3"]
    assert "gt" not in bare(stream(4)).report.json()
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.long
def test_the_same_replay_in_another_process_says_the_same_to_the_bit() -> None:
    program = (
        "from tests.experiments.replay.test_replay import stream, bare\n"
        "played = bare(stream(12))\n"
        "print(played.report.digest, *map(float.hex, played.tally.probabilities))\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(said) == 1
    assert bare(stream(12)).report.digest in said.pop()


def test_progress_is_told_after_every_conversation() -> None:
    seen: list[int] = []
    bare(stream(5), progress=lambda tally: seen.append(tally.conversations))
    assert seen == [1, 2, 3, 4, 5]


def test_thresholds_come_from_earlier_conversations_only() -> None:
    tally = StreamMeasures(handoffs=True)
    episode = spoken(1)
    places = [place for place, _ in episode.labels]
    tally.add(episode, dict(zip(places, (0.1, 0.2, 0.3, 0.35, 0.4), strict=True)))
    first = tally.report(seconds=1.0, position=1, digest="")
    assert first.measures["f1"] == 0.0
    assert first.gt == {"1": 0.0, "2": 0.0, "3": 0.0}
    tally.add(episode, dict(zip(places, (0.1, 0.2, 0.3, 0.35, 0.2), strict=True)))
    both = tally.report(seconds=1.0, position=1, digest="")
    assert both.measures["f1"] == pytest.approx(2 * 2 / (6 + 2))
    expected = handoff_match([4, 6, 8], [4, 6], 1) / 2
    assert both.gt is not None
    assert both.gt["1"] == pytest.approx(expected)


def test_a_place_without_probability_says_nothing_of_the_model() -> None:
    tally = StreamMeasures()
    tally.add(spoken(0), {0: 0.2, 2: 0.3})
    assert tally.labels == [0.0, 0.0]
    assert tally.decisions == 2


def test_notes_of_past_handoffs_are_left_out_and_places_move_up() -> None:
    plain = spoken(1)
    note = Message("baton:returned:1", "system", "", 1e9, event="returned")
    moved = tuple((place + (place >= 3), label) for place, label in plain.labels)
    noted = Episode(
        plain.id,
        (*plain.messages[:3], note, *plain.messages[3:]),
        moved,
        tuple(place for place, _ in moved),
    )
    assert without_system_events(noted) == plain
    assert without_system_events(plain) is plain


# -- the caller, against a small real server ------------------------------------------------------


class Moody(BaseHTTPRequestHandler):
    """Refuses the first calls as its server's `moods` say, then echoes what it was sent."""

    protocol_version = "HTTP/1.1"
    moods: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        mood = self.moods.pop(0) if self.moods else 200
        if mood == 0:
            self.close_connection = True
            return
        error = {"error": {"code": "odd", "message": "m is odd", "field": "m", "hint": "send 2"}}
        sent = body if mood == 200 else json.dumps(error).encode()
        self.send_response(mood)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def moody(*moods: int) -> Iterator[str]:
    handler = type("Handler", (Moody,), {"moods": list(moods)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_a_busy_or_broken_off_request_is_sent_again() -> None:
    with moody(503, 0, 429) as url, BatonClient(url, "k") as caller:
        assert caller.post("/v1/score", {"n": 1}) == {"n": 1}


def test_a_refusal_says_what_is_wrong_and_what_to_do() -> None:
    with moody(422) as url, BatonClient(url, "k") as caller:
        with pytest.raises(RefusedError, match=r"POST /x: 422 odd: m is odd; send 2") as caught:
            caller.post("/x", {})
        assert (caught.value.status, caught.value.code) == (422, "odd")


def test_nobody_there_is_said_once_patience_ends() -> None:
    with moody() as url:
        pass
    with (
        BatonClient(url, "k", patience_seconds=0.2) as caller,
        pytest.raises(UnreachableError) as said,
    ):
        caller.get("/v1/standing")
    assert "is `baton up` running there?" in str(said.value)


def test_parts_of_a_path_cannot_leave_their_place() -> None:
    assert path_of("conversations", "a/b?c", "outcome") == "/v1/conversations/a%2Fb%3Fc/outcome"
