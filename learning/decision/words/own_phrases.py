"""Custom phrases (a gazetteer) of a workspace: what they show in a message, beside the lexicon.

They are part of the policy: what they show is added to the signals that rules read, so a request
or a topic is escalated, routed and explained like any other. The model does not read them. A
phrase is found word by word in the customer's own words, whatever its case, accents, marks above
letters and long runs of a letter, and nothing takes it back, not even a denial before it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field, field_validator

from learning.conversation.state import Message, State
from learning.decision.policy_document import PolicyDocument
from learning.text.language import base_of, language_of
from learning.text.own_words import OwnWords, own_words
from learning.text.signals import EVIDENCE_CHARS_MAX, EVIDENCE_MAX, TOPICS, shorten
from learning.text.tokens import tokens, unspaced

PHRASES_MAX = 200
"""Most phrases of a policy; each is looked for only in a text that has all of its words."""

OWN = "own:"
"""Begins the name of the evidence that says which phrase of a policy showed a signal."""

Signal = Literal[
    "request", "cancellation", "complaint", "identity", "legal", "refund", "safety", "security",
    "technical",
]  # fmt: skip
"""What a phrase may show: a request for a person, or a topic."""


class Phrase(PolicyDocument):
    """A phrase of a workspace's customers, and what it shows where it stands in a message."""

    signal: Annotated[
        Signal,
        Field(
            description="What it shows: a request for a person, or a topic.", examples=["request"]
        ),
    ]
    text: Annotated[
        str,
        Field(min_length=2, max_length=100, description="The words.", examples=["ring me back"]),
    ]
    language: Annotated[
        Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*$", max_length=35)]
        | None,
        Field(description="Only in messages of this language; null: in any.", examples=["en"]),
    ] = None

    @field_validator("text")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if not any(word not in ".," for word in _words(text)):
            raise ValueError("names no word")
        return text


@dataclass(frozen=True, slots=True)
class PhraseHit:
    """A phrase where it stands in a message; `quote` are the words as they were stored."""

    phrase: Phrase
    quote: str


@lru_cache(maxsize=4096)
def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in tokens(text).words if word not in ".,")


def phrase_hits(
    phrases: Sequence[Phrase], message: Message, language: str | None
) -> list[PhraseHit]:
    """The phrases that stand in a message's own words, each once. Pure; bounded."""
    own = own_words(shorten(message.text), message.format)
    if not phrases or not own.text.strip():
        return []
    split = tokens(own.text, own)
    places = [place for place, word in enumerate(split.words) if word not in ".,"]
    words = [split.words[place] for place in places]
    known = frozenset(words)
    code = base_of(language) or language_of(own.text)
    found = []
    for phrase in phrases:
        if phrase.language is not None and code not in (None, base_of(phrase.language)):
            continue
        if unspaced(phrase.text):
            quote = _quote_unspaced(phrase.text, own)
        else:
            wanted = _words(phrase.text)
            at = _place_of(wanted, words) if known.issuperset(wanted) else None
            last = 0 if at is None else at + len(wanted) - 1
            quote = None if at is None else split.written(places[at], places[last])
        if quote:
            found.append(PhraseHit(phrase, quote[:EVIDENCE_CHARS_MAX]))
    return found


def _place_of(wanted: tuple[str, ...], words: list[str]) -> int | None:
    """Where some words stand one after the other, marks between them aside."""
    first, count = wanted[0], len(wanted)
    for place, word in enumerate(words):
        if word == first and tuple(words[place : place + count]) == wanted:
            return place
    return None


def _quote_unspaced(phrase: str, own: OwnWords) -> str | None:
    """The phrase in a text whose script writes no spaces."""
    text = unicodedata.normalize("NFKC", own.text).casefold()
    wanted = unicodedata.normalize("NFKC", phrase).casefold()
    place = text.find(wanted)
    if place < 0:
        return None
    return own.quote(place, place + len(wanted)) if len(text) == len(own.text) else phrase


def with_own_phrases(phrases: Sequence[Phrase], state: State, message: Message | None) -> State:
    """The state as a policy reads it: its newest message shows what the policy's phrases do, too.

    Signals that the lexicon shows keep their own evidence.
    """
    if not phrases or message is None or state.signals_id != message.id:
        return state
    if state.message_id != message.id or not message.text:
        return state
    signals = state.signals
    request, topics, evidence = signals.request, set(signals.topics), dict(signals.evidence)
    for hit in phrase_hits(phrases, message, state.language):
        name = hit.phrase.signal
        if name == "request" and request is None:
            request = hit.quote
        elif name in topics or (name == "request" and request is not None):
            continue
        evidence[name], evidence[OWN + name] = hit.quote, hit.phrase.text
        if name != "request":
            topics.add(name)
    own = sorted(name for name in evidence if name.startswith(OWN))
    kept = [*own, *(name.removeprefix(OWN) for name in own)]
    kept += [name for name in evidence if name not in kept]
    return replace(
        state,
        signals=replace(
            signals,
            request=request,
            topics=tuple(topic for topic in TOPICS if topic in topics),
            evidence=tuple(sorted((name, evidence[name]) for name in kept[:EVIDENCE_MAX])),
        ),
    )
