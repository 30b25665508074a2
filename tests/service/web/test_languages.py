"""The console's languages over HTTP: which one is shown, and that reasons are worded in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from learning.decision.rules import Reason
from service.web.console.language import formats
from service.web.console.language.reason_text import reason_text, reworded
from service.web.console.language.sentences import worded
from service.web.console.language.translations import choose, languages, speaking
from tests.service.web.test_conversation_page import Window
from tests.service_in_process import ASKS, InProcess, Place, serving

GERMAN = {"Accept-Language": "de-AT,de;q=0.9,en;q=0.8"}
QUEUE = "/console/queue"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("languages")) as running:
        yield running


def test_the_first_language_that_a_browser_accepts_and_there_is_is_shown() -> None:
    assert choose(None, "fr-CH, de-CH;q=0.9, en;q=0.8") == "de"
    assert choose(None, "en-GB,en;q=0.9,de;q=0.8") == "en"
    assert choose(None, "ja, *;q=0.1") == choose(None, "") == choose(None, ";q=,,q=x") == "en"
    assert choose("en", "de") == "en"
    assert choose("../de", "de") == "de"


def test_a_page_says_in_which_language_it_is(service: InProcess) -> None:
    caller = service.caller()
    english, german = (caller.get("/console/sign-in", headers=h) for h in ({}, GERMAN))
    assert english.headers["content-language"] == "en"
    assert '<html lang="en">' in english.text
    assert "<h1>Sign in</h1>" in english.text
    assert german.headers["content-language"] == "de"
    assert '<html lang="de">' in german.text
    assert "<h1>Anmelden</h1>" in german.text


def test_a_choice_holds_against_the_browsers_wish_and_leads_back(service: InProcess) -> None:
    caller = service.caller()
    chosen = caller.get("/console/language?language=de&next=/console/missed%3Fq=a%2520b")
    assert chosen.status_code == 303
    assert chosen.headers["location"] == "/console/missed?q=a%20b"
    assert '<html lang="de">' in caller.get("/console/sign-in").text
    for elsewhere in ("https://example.org/", "//example.org", "/console/../docs", "/docs"):
        asked = {"language": "de", "next": elsewhere}
        answer = caller.get("/console/language", params=asked)
        assert answer.headers["location"] == QUEUE
    assert caller.get("/console/language?language=xx").status_code == 404


def test_a_page_words_reasons_by_their_codes_and_the_api_stays_english(place: Place) -> None:
    place.bot.decided("c", "m", ASKS)
    (handoff,) = place.agent.got("/v1/handoffs")["handoffs"]
    window = Window(place, place.keys["agent"])
    said = "verlangt einen Menschen: „want to talk to a human“"
    assert said in window.caller.get(QUEUE, headers=GERMAN).text
    page = window.caller.get(f"/console/handoffs/{handoff['id']}", headers=GERMAN).text
    assert said in page
    assert "An einen Menschen übergeben." in page
    path = f"/console/queue/reasons?id={handoff['id']}"
    assert window.caller.get(path, headers=GERMAN).json() == {handoff["id"]: said}
    place.agent.headers.update(GERMAN)
    packet = place.agent.got(f"/v1/handoffs/{handoff['id']}")
    assert packet["reasons"][0]["text"] == "asks for a person: “want to talk to a human”"


def decided(place: Place) -> list[dict[str, Any]]:
    """Reasons of many kinds, as decisions gave them."""
    rules = place.engineer.got("/v1/policy")["rules"]
    own = {"name": "parrots", "watches": "says:a parrot", "action": "offer"}
    place.policy(rules=[*rules, own])
    failed = {"bot": {"tool_error": "timeout", "intent": "refund"}}
    asks = "where is the refund for my order"
    texts = {
        "again": [asks, f"{asks}?", f"{asks}??", f"{asks}!"],
        "legal": ["I will sue you, my lawyer will call"],
        "hacked": ["my account was hacked"],
        "own": ["I have a parrot"],
        "loud": ["THIS IS AWFUL, you useless idiots!!! I am furious"],
        "asks": [ASKS, "is anybody there"],
    }
    return [
        reason
        for name, said in texts.items()
        for number, text in enumerate(said)
        for reason in place.bot.decided(name, f"m{number}", text, **failed)["reasons"]
    ]


def test_a_reason_that_is_made_anew_in_english_is_its_text(place: Place) -> None:
    reasons = decided(place)
    assert {"request", "topic", "failures", "says", "human_active"} <= {r["code"] for r in reasons}
    for reason in reasons:
        assert reworded(reason).replace(" ", "_") == reason["text"].replace(" ", "_")
        with speaking("de"):
            assert reason_text(reason) != reason["text"]


def test_a_reason_of_an_older_decision_stays_as_it_was_recorded() -> None:
    with speaking("de"):
        assert reason_text({"text": "it is so", "weight": 1.0}) == "it is so"
        assert reason_text(Reason("it is so", 1.0, "of_a_later_build").body()) == "it is so"


def test_a_team_that_is_away_is_told_with_its_day(place: Place) -> None:
    away = "nobody of team support is there until Mon 09:00 CET"
    params = {"away": away, "team": "support", "action": "offer"}
    reason = Reason(f"{away}; a callback is offered", 1.0, "team_away", params).body()
    assert reworded(reason) == reason["text"]
    with speaking("de"):
        assert reason_text(reason) == (
            "vom Team support ist bis Mo 09:00 CET niemand da; ein Rückruf wird angeboten"
        )


def test_a_refusal_is_said_in_the_pages_language(place: Place) -> None:
    handoff = place.escalated()
    keys = [place.admin.posted("/v1/keys", {"role": "agent", "name": n}) for n in ("ann", "ben")]
    ann, ben = (Window(place, made["key"]) for made in keys)
    ann.send(handoff, "claim")
    ben.caller.headers.update(GERMAN)
    answer = ben.send(handoff, "claim")
    assert answer.status_code == 409
    assert f"Übergabe {handoff!r} hat bereits ann übernommen." in answer.text.replace("&#39;", "'")
    lost = ben.caller.get("/console/handoffs/h0")
    assert "<h1>Nicht gefunden</h1>" in lost.text


def test_a_sentence_that_no_catalogue_has_stays_english_and_is_marked_so(place: Place) -> None:
    with speaking("de"):
        assert worded("drift was seen in words") == "drift was seen in words"
        assert worded("there is no key 'k1'") == "es gibt keinen Schlüssel 'k1'"


def test_numbers_and_times_are_written_as_the_language_does() -> None:
    assert formats.format_share(0.034) == "3.4 %"
    assert formats.clock(0) == "Thu 00:00 UTC"
    with speaking("de"):
        assert formats.format_share(0.034) == "3,4 %"
        assert formats.decimal(1234.5) == "1234,50"
        assert formats.clock(0) == "Do. 00:00 UTC"
        assert formats.format_wait(3 * 86_400) == "3 d"


def test_scripts_get_their_texts_in_the_pages_language_once(service: InProcess) -> None:
    caller = service.caller()
    page = caller.get("/console/sign-in", headers=GERMAN).text
    address = re.search(r'src="(/console/language/\w+/de\.js)"', page)
    assert address is not None
    script = caller.get(address[1])
    assert "immutable" in script.headers["cache-control"]
    assert '"Take it back": "Zurücknehmen"' in script.text
    assert caller.get("/console/language/old/de.js").headers["cache-control"] == "no-store"
    assert caller.get("/console/language/old/xx.js").status_code == 404


def test_another_language_is_another_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    head = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=utf-8\\n"\n\n'
    (tmp_path / "fr.po").write_text(f'{head}msgid "Queue"\nmsgstr "File d’attente"\n')
    monkeypatch.setattr("service.web.console.language.translations.CATALOGUES", tmp_path)
    languages.cache_clear()  # type: ignore[attr-defined]
    try:
        assert choose(None, "fr") == "fr"
        assert languages()["fr"].name == "Français"
        assert languages()["fr"].texts.gettext("Queue") == "File d’attente"
    finally:
        monkeypatch.undo()
        languages.cache_clear()  # type: ignore[attr-defined]
