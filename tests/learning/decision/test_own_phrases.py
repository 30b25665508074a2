"""A workspace's own phrases show what its policy says, in the customer's own words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from learning.conversation.state import EMPTY, Message, State, fold, step
from learning.decision.policy import Policy, PolicyDecision, decide
from learning.decision.words.own_phrases import PHRASES_MAX, Phrase, phrase_hits, with_own_phrases
from learning.text.signals import EVIDENCE_MAX

QUIET = "where is my parcel"
SAYS = "kuzungumza na mtu"
"""In a language that the lexicon does not have."""


def policy(*phrases: tuple[str, str], **more: str) -> Policy:
    return Policy.model_validate(
        {"phrases": [{"signal": signal, "text": text} | more for signal, text in phrases]}
    )


def decided(
    under: Policy, text: str, before: State = EMPTY, **more: str
) -> tuple[PolicyDecision, State]:
    message = Message("m", "user", text, 1.0, **more)  # type: ignore[arg-type]
    state = with_own_phrases(under.phrases, step(before, message), message)
    return decide(under, state, 0.0), state


def test_a_phrase_for_a_request_escalates_and_its_reason_names_it() -> None:
    assert decided(Policy(), f"Nataka {SAYS} sasa")[0].action == "continue"
    found, _ = decided(policy(("request", SAYS)), f"Nataka {SAYS} sasa")
    assert (found.action, [one.kind for one in found.triggers]) == ("escalate", ["request"])
    (reason,) = found.reasons
    assert SAYS in reason.text
    assert "your phrase" in reason.text
    assert reason.params == {"watches": "request", "quote": SAYS, "phrase": SAYS}


@pytest.mark.parametrize("signal", ["safety", "security", "identity", "legal"])
def test_a_phrase_for_a_topic_sets_off_the_rule_that_watches_it(signal: str) -> None:
    found, _ = decided(policy((signal, SAYS)), SAYS)
    assert (found.action, found.route.team) == ("escalate", signal)
    assert found.reasons[0].params["phrase"] == SAYS


@pytest.mark.parametrize("signal", ["refund", "cancellation", "technical"])
def test_a_phrase_for_a_topic_without_a_rule_does_nothing_by_itself(signal: str) -> None:
    found, state = decided(policy((signal, SAYS)), SAYS)
    assert (found.action, signal in state.signals.topics) == ("continue", True)


@pytest.mark.parametrize(
    "text, quote",
    [
        ("NATAKA KUZUNGUMZA NA MTU!", "KUZUNGUMZA NA MTU"),
        ("kuzungumza, na ... mtu", "kuzungumza, na ... mtu"),
        ("kuzúngumza ná mtú", "kuzúngumza ná mtú"),
        ("kuzungu\u200bmza na mtu", "kuzungu\u200bmza na mtu"),
        ("<p>kuzungumza&nbsp;na <b>mtu</b></p>", "kuzungumza&nbsp;na <b>mtu"),
        ("kuzungumza\nna\nmtu", "kuzungumza\nna\nmtu"),
        ("neno " * 3000 + SAYS + " neno" * 500, SAYS),
    ],
)
def test_it_is_found_whatever_the_writing_and_quoted_as_it_was_stored(
    text: str, quote: str
) -> None:
    found, state = decided(policy(("request", SAYS)), text)
    assert (found.action, state.signals.request) == ("escalate", quote)
    assert quote in text


@pytest.mark.parametrize(
    "text",
    [
        "kuzungumza mtu na",
        "kuzungumza na mtumwa",
        f"> {SAYS}\n\nasante sana",
        "kuzungumza na",
        "",
    ],
)
def test_it_is_not_found_where_it_does_not_stand(text: str) -> None:
    assert decided(policy(("request", SAYS)), text)[0].action == "continue"


@pytest.mark.parametrize("text", ["お手数ですが係の方をお願いします", "係の方"])
def test_scripts_without_spaces_are_read_too(text: str) -> None:
    found, state = decided(policy(("technical", "係の方")), text)
    assert "technical" in state.signals.topics
    assert dict(state.signals.evidence)["technical"] == "係の方"
    assert found.thresholds == Policy().thresholds


@pytest.mark.parametrize(
    "language, found",
    [("sw", True), ("sw-KE", True), (None, True), ("en", False), ("pt-BR", False)],
)
def test_a_phrase_of_a_language_counts_in_it_and_where_none_is_known(
    language: str | None, found: bool
) -> None:
    under = policy(("request", SAYS), language="sw")
    message = Message("m", "user", SAYS, 1.0, language=language)
    assert bool(phrase_hits(under.phrases, message, language)) is found


def test_it_shows_nothing_at_a_later_message_nor_in_the_bots_words() -> None:
    under = policy(("request", SAYS))
    first = Message("m1", "user", SAYS, 1.0)
    later = Message("m2", "user", QUIET, 2.0)
    assert decided(under, QUIET, fold([first]))[0].action == "continue"
    bot = Message("b", "bot", SAYS, 3.0)
    state = with_own_phrases(under.phrases, fold([first, later, bot]), bot)
    assert decide(under, state, 0.0).action == "continue"


def test_what_the_lexicon_shows_keeps_its_own_evidence() -> None:
    text = f"I want to talk to a human, {SAYS}"
    plain = decided(Policy(), text)[1]
    assert decided(policy(("request", SAYS)), text)[1].signals == plain.signals


def test_evidence_keeps_its_bound_and_what_a_phrase_showed() -> None:
    text = SAYS + " refund cancel complaint error 500 lawyer!!! hacked fire???"
    found, state = decided(policy(("identity", SAYS), ("request", "sana")), text)
    assert len(state.signals.evidence) <= EVIDENCE_MAX
    assert any("your phrase" in one.text for one in found.reasons)


@given(st.text(max_size=300), st.text(min_size=2, max_size=40))
def test_no_text_and_no_phrase_break_it(text: str, words: str) -> None:
    try:
        under = policy(("request", words))
    except ValidationError:
        return
    message = Message("m", "user", text, 1.0)
    state = step(EMPTY, message)
    read = with_own_phrases(under.phrases, state, message)
    assert (read.signals.request is None) <= (state.signals.request is None)


@pytest.mark.parametrize(
    "phrase",
    [
        {"signal": "request", "text": "."},
        {"signal": "request", "text": " ,, "},
        {"signal": "request", "text": "x" * 101},
        {"signal": "wishes", "text": SAYS},
        {"signal": "legal_mention", "text": SAYS},
        {"signal": "request", "text": SAYS, "language": "not a language"},
        {"signal": "request", "text": SAYS, "why": "because"},
    ],
)
def test_a_phrase_that_can_find_nothing_is_refused(phrase: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate({"phrases": [phrase]})


def test_there_are_at_most_so_many() -> None:
    phrases = [{"signal": "request", "text": f"phrase {n}"} for n in range(PHRASES_MAX + 1)]
    Policy.model_validate({"phrases": phrases[:-1]})
    with pytest.raises(ValidationError):
        Policy.model_validate({"phrases": phrases})


def test_a_policy_of_before_has_none() -> None:
    body = Policy().model_dump(mode="json")
    del body["phrases"], body["say"]
    assert Policy.from_ledger(body) == Policy()
    assert Phrase(signal="request", text=SAYS).language is None
