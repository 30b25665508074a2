"""Long texts, long conversations and bare attachments are decided about, within a limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from service.store.conversations import batch
from tests.service_in_process import ASKS, OTHERS, QUIET, InProcess, Place, refusal, serving

PICTURE = [{"type": "image", "name": "receipt.jpg"}]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("limits")) as running:
        yield running


@pytest.mark.parametrize("place_of_request", [0, 4000, 9500])
def test_a_long_text_is_cut_with_a_mark_and_decided(place: Place, place_of_request: int) -> None:
    words = ["word"] * 40_000
    words[place_of_request // 5] = f". {ASKS} ."
    text = " ".join(words)
    assert place.bot.decided("c", "m1", text)["action"] == "escalate"
    (stored, _) = place.agent.got("/v1/conversations/c")["messages"]
    assert stored["text"].startswith(text[:19_000])
    assert (len(stored["text"]), stored["text"][-5:]) == (20_000, "[cut]")
    assert place.bot.decided("c", "m1", text)["action"] == "escalate"


def test_all_texts_of_a_request_together_have_a_limit_that_is_named(place: Place) -> None:
    history = [{"id": f"h{n}", "author": "bot", "text": "x" * 20_000} for n in range(7)]
    answer = place.bot.score("c", "m1", QUIET, history=history)
    assert "128000" in refusal(answer, 422)["message"]
    assert place.bot.score("c", "m1", QUIET, history=history[:6]).status_code == 200
    body = {"messages": history}
    assert (
        "128000"
        in refusal(place.bot.post("/v1/conversations/c/messages", json=body), 422)["message"]
    )


def test_all_texts_of_a_batch_together_have_a_limit_that_is_named(place: Place) -> None:
    items = [
        {"conversation_id": f"c{n}", "message": {"id": "m", "text": "x" * 20_000}}
        for n in range(26)
    ]
    answer = place.bot.post("/v1/score/batch", json={"items": items})
    assert "512000" in refusal(answer, 422, "texts_too_long")["message"]
    assert place.bot.post("/v1/score/batch", json={"items": items[:25]}).status_code == 200


def test_at_its_limit_a_conversation_is_still_answered_by_the_protected_rules(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.bot.decided("c", "m1", QUIET)
    monkeypatch.setattr(batch, "TURNS_MAX", 1)
    refusal(place.bot.score("c", "m2", QUIET), 422, "conversation_too_long")
    for number, text in enumerate((ASKS, "I am going to kill myself")):
        decided = place.bot.decided("c", f"p{number}", text)
        assert decided["action"] == ("human_active" if number else "escalate")
        assert decided["handoff"]["raised"] is bool(number)


@pytest.mark.parametrize("said", [{"text": ""}, {}])
def test_attachments_alone_are_a_message(place: Place, said: dict[str, Any]) -> None:
    body = {"conversation_id": "c", "message": {"id": "m1", "attachments": PICTURE, **said}}
    assert place.bot.posted("/v1/score", body)["action"] == "continue"
    (stored,) = place.agent.got("/v1/conversations/c")["messages"]
    assert (stored["text"], stored["attachments"]) == ("", PICTURE)


def test_a_message_of_nothing_is_refused(place: Place) -> None:
    body = {"conversation_id": "c", "message": {"id": "m1"}}
    assert "attachments" in refusal(place.bot.post("/v1/score", json=body), 422)["message"]


def test_a_reason_names_its_code_and_what_it_was_made_of(place: Place) -> None:
    (reason,) = place.bot.decided("c", "m1", ASKS)["reasons"]
    assert (reason["code"], reason["params"]["watches"]) == ("request", "request")
    assert reason["params"]["quote"] in reason["text"]


def test_a_reason_of_the_model_names_the_words_that_moved_it(place: Place) -> None:
    place.policy(costs={"unneeded": 1, "missed": 50, "ask": 0.1}, offers={"first_message": True})
    for number in range(6):
        for kind, text, verdict in (
            ("a", f"my blender makes smoke, case {number}", "missed"),
            ("b", OTHERS[number], "fine"),
        ):
            place.bot.decided(f"{kind}{number}", "m", text)
            path = f"/v1/conversations/{kind}{number}/outcome"
            place.agent.posted(path, {"verdict": verdict})
    decided = place.bot.decided("c", "m1", "the blender makes smoke")
    assert decided["action"] in ("offer", "escalate")
    (reason,) = [one for one in decided["reasons"] if one["code"].startswith("model_")]
    assert any(word in reason["text"] for word in ("“blender”", "“smoke”")), reason
    assert reason["params"]["causes"]
    replayed = place.agent.got(f"/v1/decisions/{decided['decision_id']}/replay")
    assert replayed["identical"] is True
