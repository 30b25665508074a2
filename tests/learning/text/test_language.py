"""A language is the declared one, or what script and everyday words show; nothing is guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.text.language import base_of, coverage, language_json, language_of
from learning.text.lexicon.phrase_matcher import FULL, languages

WRITTEN = {
    "en": "where is my parcel that I have ordered",
    "es": "dónde está mi pedido y por qué no llega",
    "pt": "onde está a minha encomenda que não chega",
    "fr": "où est mon colis et pourquoi il n'est pas là",
    "de": "wo ist mein Paket und warum kommt es nicht",
    "it": "dov'è il mio pacco che non arriva",
    "nl": "waar is mijn pakket en waarom komt het niet",
    "pl": "gdzie jest moja paczka i dlaczego jej nie ma",
    "tr": "bu sipariş nerede ve ne zaman gelecek",
    "ru": "где мой заказ",
    "uk": "де моє замовлення",
    "ar": "أين طلبي",
    "fa": "سفارش من کجاست چرا نمی‌رسد",
    "ur": "میرا آرڈر کہاں ہے",
    "hi": "मेरा ऑर्डर कहाँ है",
    "bn": "আমার অর্ডার কোথায়",
    "ta": "என் ஆர்டர் எங்கே",
    "ja": "私の荷物はどこですか",
    "ko": "제 주문은 어디 있나요",
    "zh": "我的包裹在哪里",
    "th": "พัสดุของฉันอยู่ที่ไหน",
    "el": "πού είναι το δέμα μου",
    "he": "איפה החבילה שלי",
    "sv": "var är mitt paket och varför kommer det inte",
    "fi": "missä on minun pakettini ja miksi se ei tule",
    "hu": "hol van a csomagom és miért nem jön",
    "ro": "unde este coletul meu și de ce nu vine",
    "vi": "đơn hàng của tôi ở đâu và tại sao không đến",
}


@pytest.mark.parametrize("code, text", WRITTEN.items())
def test_a_sentence_shows_its_language(code: str, text: str) -> None:
    assert language_of(text) == code


@pytest.mark.parametrize("text", ["", "   ", "42", "?!", "😡😡", "ok", "PKG-1234", "refund"])
def test_what_shows_no_language_is_not_guessed(text: str) -> None:
    assert language_json(None, text) == {"code": None, "covered": None, "signals": None}


@pytest.mark.parametrize("text", ["გამარჯობა, სად არის", "እንዴት ነህ", "សួស្តី តើ"])
def test_a_script_of_no_covered_language_is_not_covered(text: str) -> None:
    assert language_json(None, text)["covered"] is False


@pytest.mark.parametrize(
    "tag, code", [("pt-BR", "pt"), ("zh_Hant", "zh"), ("fil", "tl"), ("NB", "no")]
)
def test_a_declared_language_is_believed_whatever_the_text(tag: str, code: str) -> None:
    found = language_json(tag, WRITTEN["en"])
    assert (found["code"], found["covered"]) == (code, True)


def test_every_language_of_the_lexicon_has_its_coverage_and_no_other_has() -> None:
    for code in languages():
        assert coverage(code) == ("all" if code in FULL else "requests")
    for code in ("sw", "und", "xx"):
        assert coverage(code) == "none"


@given(st.text(max_size=2000))
def test_any_text_has_a_language_or_none(text: str) -> None:
    found = language_json(None, text)
    assert (found["code"] is None) == (found["covered"] is None) == (found["signals"] is None)


@given(st.text(max_size=35))
def test_any_tag_has_a_base_or_none(tag: str) -> None:
    base = base_of(tag)
    assert base is None or base == base.lower()
