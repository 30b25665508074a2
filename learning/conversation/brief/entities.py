"""Entity extraction from the customer's messages: contact data, reference numbers, amounts, dates.

E-mail addresses and phone numbers are recognised by libraries; the rest (reference numbers,
amounts, dates, the customer's name, what they bought) by patterns held to high precision: a missed
fact costs a glance at the transcript, a wrong one misleads. Every fact cites its message and the
span of its characters, and no two facts of a message overlap: the surer kind goes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from learning.conversation.brief.emails import addresses
from learning.conversation.brief.phones import phones
from learning.conversation.state import Message

FACTS_MAX = 50
"""Most facts of a conversation; the first ones are kept."""

CACHED_CHARS = 1000
"""What was found in texts up to this length is remembered: an open page asks again and again."""

MATCHES_MAX = 20
"""Most matches of one kind taken from one message."""

KINDS = (
    *("email", "order", "invoice", "ticket", "booking", "tracking", "reference"),
    *("amount", "date", "phone", "name", "product"),
)
"""Every kind of fact, the surer first."""

_NUMBER = r"(?:\s{0,2}(?:number|numero|numéro|número|nummer|nr|num|no|n[°º]|id|code|ref)\b\.?)"
_CODE = r"((?=[\w-]{0,29}\d)[A-Za-z\d][\w-]{1,29}[A-Za-z\d])"
_LINK = r"[\s:#=\"'“(]{0,4}(?:(?:is|was|ist|lautet|est|es|è|é)\b)?[\s:#\"'“(]{0,4}"
_NOUNS = {
    "order": (
        r"(?:order|purchase|bestellung|bestell|auftrags?|commande|pedido|ordine|bestelling|"
        r"encomenda|zamówieni[ea]|заказ[а-я]{0,2})"
    ),
    "invoice": r"(?:invoice|bill|rechnung|rechnungs|facture|factura|fattura|fatura|factuur)",
    "ticket": r"(?:ticket|case|incident|vorgang|vorgangs|dossier|caso)",
    "booking": r"(?:booking|reservation|pnr|buchung|buchungs|réservation|reserva|prenotazione)",
    "tracking": r"(?:tracking|parcel|shipment|sendungs?|sendung|suivi|seguimiento|envío|rastreo)",
    "reference": r"(?:ref|reference|referenz|référence|referencia|riferimento|customer|account)",
}
_LABELLED_CODE = {
    kind: re.compile(rf"(?i)(?<!\w){noun}({_NUMBER})?{_LINK}{_CODE}(?![\w-])")
    for kind, noun in _NOUNS.items()
}
_CODE_NOUN = {kind: re.compile(rf"(?i)(?<!\w){noun}") for kind, noun in _NOUNS.items()}
_ANSWER = re.compile(
    rf"(?i)\W{{0,3}}(?:(?:yes|sure|ok|okay|it|that|is|it's|the|number|here|ja|oui|sí|si|es|ist)\b"
    rf"[\s,.:]{{1,3}}){{0,4}}{_CODE}(?![\w-])"
)
_EASTERN = re.compile(
    r"(?:订单|訂單|注文|주문)(?:编号|編號|番号|号|號|번호)?\s{0,2}[::#是は]?\s{0,2}((?=[\w-]{0,29}\d)[A-Za-z\d-]{3,30})",
    re.ASCII,
)
_HASH_CODE = re.compile(r"(?<![\w&#])#(\d{4,12})(?![\w-])")
_ENGLISH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)(?:[a-z]{2,6}|\.)?"
_MONTH = (
    rf"(?:{_ENGLISH}|(?i:january|february|march|april|june|july|august|september|october|november"
    r"|december|januar|februar|märz|mai|juni|juli|oktober|dezember|janvier|février|mars|avril|juin"
    r"|juillet|août|septembre|octobre|novembre|décembre|enero|febrero|marzo|abril|mayo|junio|julio"
    r"|agosto|septiembre|octubre|noviembre|diciembre|gennaio|febbraio|aprile|maggio|giugno|luglio"
    r"|settembre|ottobre|dicembre|januari|februari|maart|mei|augustus|janeiro|fevereiro|março|maio"
    r"|junho|julho|setembro|outubro|dezembro))"
)
_YEAR = r"(?:19|20)\d\d"
_DAY = r"(?:[12]\d|3[01]|0?[1-9])"
_AMOUNT = r"\d(?:[\d.,' \u00a0\u202f]{0,12}\d)?"
_PLAIN = {
    "amount": re.compile(
        rf"(?:[$€£¥₹₩₽₺](?: ?){_AMOUNT})"
        rf"|(?<![\w.,])(?:USD|EUR|GBP|CHF|INR|JPY|CNY|AUD|CAD|PLN|BRL|Rs\.?) ?{_AMOUNT}(?!\w)"
        rf"|(?<![\w.,-])\d(?:[\d.,']{{0,12}}\d)?\s?(?:[€£₹₩₽₺$元円]|(?:USD|EUR|GBP|CHF|INR|JPY|CNY"
        r"|AUD|CAD|PLN|BRL|zł|kr|dollars?|euros?|pounds|rupees|bucks)\b)"
    ),
    "date": re.compile(
        rf"(?<![\w/.-])(?:{_YEAR}[-/.](?:1[0-2]|0?[1-9])[-/.]{_DAY}"
        rf"|{_DAY}[/.-]{_DAY}[/.-](?:{_YEAR}|\d\d)"
        rf"|{_DAY}(?:st|nd|rd|th|er|º|\.)?\s(?:of |de )?{_MONTH}(?:,?\s(?:de )?{_YEAR})?"
        rf"|{_ENGLISH}\s{_DAY}(?:st|nd|rd|th)?(?:,?\s{_YEAR})?)(?![\w/-])"
        rf"|(?:{_YEAR}[年년]\s?)?(?:1[0-2]|0?[1-9])[月월]\s?{_DAY}[日号일]"
    ),
}
_WORD = r"[^\W\d_](?:[\w'’.-]{0,30}\w)?"
_NAME = re.compile(
    r"(?i:\b(?:my (?:full )?name is|name's|mein name ist|ich hei(?:ß|ss)e|je m['’]appelle|"
    r"mon nom est|me llamo|mi nombre es|mi chiamo|meu nome é|mijn naam is|nazywam się))\s"
    rf"((?=[^\W\d_a-zß-öø-ÿ]){_WORD}(?:\s(?=[^\W\d_a-zß-öø-ÿ]){_WORD}){{0,3}})"
)
_PURCHASE = re.compile(
    r"(?i)\b(?:bought|ordered|purchased|preordered|pre-ordered)\s(?:myself\s|you\s|from you\s)?"
    r"(?:an?|the|my|this|that|your|some|two|three)\s"
    r"((?:(?!(?:from|on|in|at|for|with|and|but|last|yesterday|today|two|three|which|that|because|"
    r"as|is|was|has|had|it|i|we|you|to|of|off|via|by|about|through|this|when|online|ago|so|a|an|"
    r"the|or|who|than|days?|weeks?|months?|using|back|recently|already|earlier|just|again|not)\b)"
    r"[\w'’+-]{1,30}(?:\s|(?=[.,;:!?\n)\"]|$))){1,5})"
)
_VAGUE = frozenset(
    [
        "item",
        "items",
        "product",
        "products",
        "thing",
        "things",
        "order",
        "one",
        "ones",
        "something",
        "few",
    ]
)
_DIGITS_SURE = 4
_DIGITS_LEAST = 3
_LUHN_LEAST = 13


@dataclass(frozen=True, slots=True)
class Fact:
    """An extracted entity; `value` is the text at `start` to `stop` of that message."""

    kind: str
    value: str
    message_id: str
    start: int
    stop: int


def facts(messages: Iterable[Message]) -> tuple[Fact, ...]:
    """The entities of a conversation, each where it was first given; at most FACTS_MAX. Pure."""
    by_value: dict[tuple[str, str], Fact] = {}
    language: str | None = None
    requested: str | None = None
    for message in messages:
        language = message.language or language
        if message.author != "user":
            requested = _requested_kind(message.text) if message.author == "bot" else requested
            continue
        extract = _extract_cached if len(message.text) <= CACHED_CHARS else _extract
        entities = extract(message.text, language)
        for kind, start, stop, normal in (
            *entities,
            *_match_answer(message.text, requested, entities),
        ):
            value = message.text[start:stop]
            by_value.setdefault((kind, normal), Fact(kind, value, message.id, start, stop))
        requested = None
    return tuple(by_value.values())[:FACTS_MAX]


def _requested_kind(text: str) -> str | None:
    """The one kind of code that a bot's question is about; None where it is about none or two."""
    if len(text) > CACHED_CHARS or "?" not in text:
        return None
    kinds = [kind for kind, noun in _CODE_NOUN.items() if noun.search(text)]
    return kinds[0] if len(kinds) == 1 else None


def _match_answer(
    text: str, requested: str | None, entities: Sequence[tuple[str, int, int, str]]
) -> Iterator[tuple[str, int, int, str]]:
    """The code that a message begins with, where the bot has just asked for one."""
    match = _ANSWER.match(text) if requested else None
    if requested is None or match is None or not _is_reference(match.group(1), labelled=False):
        return
    start, stop = match.span(1)
    if all(stop <= entity[1] or entity[2] <= start for entity in entities):
        yield requested, start, stop, match.group(1).casefold()


def _extract(text: str, language: str | None) -> tuple[tuple[str, int, int, str], ...]:
    """Kind, span, and what tells two writings of one fact apart; in the order of the text."""
    entities: list[tuple[str, int, int, str]] = []
    counts = dict.fromkeys(KINDS, 0)
    for kind, start, stop, normal in _candidates(text, language):
        free = all(stop <= entity[1] or entity[2] <= start for entity in entities)
        if free and counts[kind] < MATCHES_MAX:
            counts[kind] += 1
            entities.append((kind, start, stop, normal))
    return tuple(sorted(entities, key=lambda entity: entity[1]))


_extract_cached = lru_cache(maxsize=4096)(_extract)


def _candidates(text: str, language: str | None) -> Iterator[tuple[str, int, int, str]]:
    for address in addresses(text):
        yield "email", address.start, address.stop, address.normal
    digits = any(map(str.isdigit, text))
    if digits:
        yield from _codes(text)
        for kind, pattern in _PLAIN.items():
            for match in pattern.finditer(text):
                yield kind, *match.span(), match.group().casefold()
        for phone in phones(text, language):
            yield "phone", phone.start, phone.stop, phone.e164
    for match in _NAME.finditer(text):
        yield "name", *match.span(1), match.group(1).casefold()
    for match in _PURCHASE.finditer(text):
        product = match.group(1).rstrip()
        if not _VAGUE.issuperset(product.casefold().split()) and any(map(str.isalpha, product)):
            yield "product", match.start(1), match.start(1) + len(product), product.casefold()


def _codes(text: str) -> Iterator[tuple[str, int, int, str]]:
    """Numbers of orders and the like: a code after such a noun, if it is surely one."""
    for kind, pattern in _LABELLED_CODE.items():
        for match in pattern.finditer(text):
            if _is_reference(
                match.group(2), labelled=match.group(1) is not None or "#" in match.group()
            ):
                yield kind, *match.span(2), match.group(2).casefold()
    for pattern in (_EASTERN, _HASH_CODE):
        for match in pattern.finditer(text):
            yield "order", *match.span(1), match.group(1).casefold()


def _is_reference(code: str, *, labelled: bool) -> bool:
    """Whether a code after its noun is one: not in "order 250 units"; and never a card's number."""
    digits = [int(sign) for sign in code if sign.isdecimal()]
    if len(digits) >= _LUHN_LEAST and _passes_luhn(digits):
        return False
    if code.isdecimal() or len(digits) < _DIGITS_LEAST:
        return len(digits) >= (_DIGITS_LEAST if labelled else _DIGITS_SURE)
    return True


def _passes_luhn(digits: list[int]) -> bool:
    """Whether the check digit is that of a payment card."""
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0
