"""Who says only that all is well is offered nobody; any other word, and it is not said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.conversation.state import Message, State, fold
from learning.decision.policy import Policy, decide
from learning.text.lexicon.settled import WORDS_MAX, says_settled
from learning.text.similarity import words

SETTLED = [
    "Nice, that was quick.", "nope, that is everything, thanks.", "ah yes, it arrived, thank you",
    "all good", "works now, cheers", "Parfait, merci !", "C'est bon, merci beaucoup",
    "Vielen Dank, das war's", "gracias, ya funciona", "obrigada, deu certo", "grazie, risolto",
    "bedankt, het werkt weer", "dziękuję, już działa", "teşekkürler, şimdi çalışıyor",
    "спасибо, всё работает", "شكرا جزيلا، تم الحل", "शुक्रिया, हो गया",
    "ありがとうございました、解決しました", "네, 감사합니다", "谢谢,解决了",
]  # fmt: skip
OPEN = [
    "yes", "no", "ok", "great", "", "42", "thanks for nothing", "that did not work, thanks",
    "thanks, where is my order", "works?", "thank you, it works but the lamp blinks",
    "perfect, and now the bill is wrong", "merci, mais ça ne marche pas", "danke, geht nicht",
    "gracias, pero no funciona", "谢谢,没解决", "спасибо, не работает",
    "ありがとう、でも動きません", "yes please, thanks", "thanks " * (WORDS_MAX + 1),
]  # fmt: skip


def says(text: str) -> State:
    before = [Message("u", "user", "where is it", 0.0), Message("b", "bot", "Was that all?", 1.0)]
    return fold([*before, Message("m", "user", text, 2.0)])


@pytest.mark.parametrize("text", SETTLED)
def test_who_says_that_all_is_well_is_offered_nobody_and_the_reasons_say_so(text: str) -> None:
    for probability in (0.3, 0.9):
        decision = decide(Policy(), says(text), probability)
        assert decision.action == "continue"
        assert decision.reasons[-1].params == {"cause": "settled"}


@pytest.mark.parametrize("text", OPEN)
def test_any_other_word_may_mean_something_else(text: str) -> None:
    assert not says_settled(words(text))
    assert decide(Policy(), says(text), 0.9).action == "escalate"


def test_consent_to_the_bots_offer_is_a_request_all_the_same() -> None:
    offer = Message("b", "bot", "Shall I connect you with a colleague?", 0.0)
    said = fold([offer, Message("m", "user", "ok thanks", 1.0)])
    assert decide(Policy(), said, 0.03).action == "escalate"


def test_a_person_who_was_promised_and_never_came_is_offered_again() -> None:
    came = Message("s", "system", "", 0.0, event="unanswered")
    said = fold([came, Message("m", "user", "thanks", 1.0)])
    assert decide(Policy(), said, 0.03).action == "offer"


def test_a_stored_policy_decides_as_it_did() -> None:
    stored = Policy().model_dump(mode="json")
    del stored["offers"]["when_settled"]
    assert decide(Policy.from_ledger(stored), says("all good"), 0.9).action == "escalate"
    assert Policy.from_ledger({}) == Policy()


@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    assert says_settled(words(text)) in (True, False)
