"""A decision brings words for the bot to show, and says what is recognised in its language."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from learning.decision.words.words_to_show import default_words
from tests.postgres import on_both
from tests.service_in_process import ASKS, QUIET, InProcess, Place, refusal, serving

store_url = on_both()
CLOSED = [{"days": ["mon"], "opens": "00:00", "closes": "00:01"}]
TUESDAY = "2026-11-24T12:00:00Z"
DANGER = {
    "en": "I am going to kill myself",
    "es": "me voy a matar",
    "de": "ich bringe mich um",
    "fr": "je vais me suicider",
    "ja": "死にたいです。自殺します",
}


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("words"), database=store_url) as running:
        yield running


def at(place: Place, text: str, when: str = TUESDAY, **more: Any) -> Any:
    message = {"id": f"m{hash(text) % 999}", "text": text, "at": when} | more
    return place.bot.posted("/v1/score", {"conversation_id": "c", "message": message})


@pytest.mark.parametrize("code, text", DANGER.items())
@pytest.mark.parametrize("declared", [True, False])
def test_danger_brings_words_for_a_crisis_in_its_language(
    place: Place, code: str, text: str, declared: bool
) -> None:
    found = at(place, text, **({"language": code} if declared else {}))
    assert found["action"] == "escalate"
    assert found["say"]["kind"] == "crisis"
    known = code if declared or found["language"]["code"] == code else "en"
    assert found["say"]["text"] == default_words()["crisis"][known]


def test_danger_while_a_handoff_waits_brings_them_and_once_it_is_claimed_the_agent_speaks(
    place: Place,
) -> None:
    handoff = place.escalated()
    assert place.bot.decided("c", "m1", DANGER["en"])["say"]["kind"] == "crisis"
    place.agent.posted(f"/v1/handoffs/{handoff}/claim")
    assert place.bot.decided("c", "m2", DANGER["en"])["say"] is None


def test_an_offer_brings_its_words_and_a_plain_decision_none(place: Place) -> None:
    assert place.bot.decided("other", "m1", QUIET)["say"] is None
    assert place.bot.decided("other", "m2", ASKS)["say"] is None
    place.offering()
    assert place.bot.decided("c", "m1", QUIET)["say"] == {
        "kind": "offer",
        "text": default_words()["offer"]["en"],
    }


def test_an_offer_of_a_team_that_is_away_is_a_callback_at_a_promised_time(place: Place) -> None:
    place.offering()
    place.policy(teams=[{"name": "support", "hours": CLOSED}])
    found = at(place, QUIET)
    assert (found["action"], found["say"]["kind"]) == ("offer", "callback")
    assert datetime.fromisoformat(found["say"]["promised_at"]) == datetime(2026, 11, 30, tzinfo=UTC)


def test_a_request_out_of_hours_is_a_callback_as_its_handoff_promises(place: Place) -> None:
    place.policy(teams=[{"name": "support", "hours": CLOSED}])
    found = at(place, ASKS)
    assert (found["action"], found["say"]["kind"]) == ("escalate", "callback")
    assert found["say"]["promised_at"] == found["handoff"]["promised_at"]


def test_danger_out_of_hours_promises_no_callback(place: Place) -> None:
    place.policy(teams=[{"name": "safety", "hours": CLOSED}])
    found = at(place, DANGER["en"])
    assert (found["action"], found["say"]["kind"]) == ("escalate", "crisis")
    assert "promised_at" not in found["say"]


def test_a_message_too_short_to_show_its_language_is_in_that_of_those_before(place: Place) -> None:
    at(place, "dónde está mi pedido y por qué no llega")
    found = at(place, DANGER["es"])
    assert found["language"]["code"] == "es"
    assert found["say"]["text"] == default_words()["crisis"]["es"]


def test_a_policy_has_its_own_words_by_language(place: Place) -> None:
    own = {"crisis": {"en": "Call 999.", "es": "Llama al 024."}}
    place.policy(say=own)
    assert place.engineer.got("/v1/policy")["say"]["crisis"] == own["crisis"]
    assert at(place, DANGER["en"])["say"]["text"] == "Call 999."
    body = {
        "conversation_id": "d",
        "message": {"id": "m", "text": DANGER["es"], "language": "es-MX"},
    }
    assert place.bot.posted("/v1/score", body)["say"]["text"] == "Llama al 024."


def test_words_that_cannot_be_shown_are_refused_by_their_field(place: Place) -> None:
    policy = place.engineer.got("/v1/policy") | {"say": {"crisis": {"en": " "}}}
    error = refusal(place.engineer.put("/v1/policy", json=policy), 422)
    assert "say.crisis" in error["field"]


def test_the_same_message_again_has_the_same_words(place: Place) -> None:
    first = place.bot.decided("c", "m1", DANGER["en"])
    place.policy(say={"crisis": {"en": "Other words."}})
    assert place.bot.decided("c", "m1", DANGER["en"]) == first
    row = place.agent.got(f"/v1/decisions/{first['decision_id']}")
    assert (row["say"], row["language"]) == (first["say"], first["language"])
    assert place.agent.got(f"/v1/decisions/{first['decision_id']}/replay")["identical"] is True


LANGUAGES = {
    "en": ("where is my parcel that I have ordered", "all"),
    "sv": ("var är mitt paket och varför kommer det inte", "requests"),
    "ka": (None, "none"),
}


def test_a_decision_says_what_is_recognised_in_its_language(place: Place) -> None:
    for code, (text, signals) in LANGUAGES.items():
        more = {} if text else {"language": code}
        found = at(place, text or "sad aris chemi shekveta", **more)
        expected = {"code": code, "covered": signals != "none", "signals": signals}
        assert found["language"] == expected


def test_quality_counts_conversations_by_what_is_recognised(place: Place) -> None:
    said = [("where is my parcel that I have ordered", None), ("ok", None), ("sad aris", "ka")]
    said += [("sad ari", "ka-GE"), ("asante", "sw"), ("hej", "sv")]
    for number, (text, language) in enumerate(said):
        message = {"id": "m", "text": text, "language": language}
        place.bot.posted("/v1/score", {"conversation_id": f"c{number}", "message": message})
    found = place.engineer.got("/v1/quality")
    assert found["languages"] == {
        "all": 1, "requests": 1, "none": 3, "unknown": 1, "not_covered": {"ka": 2, "sw": 1},
    }  # fmt: skip
    counted = sum(found["languages"][name] for name in ("all", "requests", "none", "unknown"))
    assert counted == found["conversations"]["all"]
