"""Extractive summary: a few of the customer's own sentences, chosen by maximal marginal relevance.

Each sentence of the customer gets a score, in any language, without a model:

    share * (salience + 0.4 opening + 0.4 latest + 0.3 shown + 0.3 facts)

`salience` is how much of it the customer said in other messages too (by letters of distinct words,
0 to 1), `opening` and `latest` whether it stands in the first message with something to say and in
the one that led here, `shown` and `facts` whether a signal's words or a fact stand in it, and
`share` how far it reaches SAYING_WORDS words: a greeting says little. The best is taken, then each
time the best of what is left by score * (1 - similarity to what was taken), halved for each that
was taken from the same message; of equals the first. The summary is in the conversation's order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from learning.conversation.brief.sentences import sentences
from learning.conversation.state import Message
from learning.text.similarity import similarity, words

SENTENCES_MAX = 3
SAYING_WORDS = 6
CANDIDATES_MAX = 150
"""Of more sentences, the first and the last half of this are looked at."""

Spans = Mapping[str, Sequence[tuple[int, int]]]
"""By message id, spans of its characters."""


@dataclass(frozen=True, slots=True)
class SummarySentence:
    """A sentence as the customer wrote it: the characters `start` to `stop` of that message."""

    text: str
    message_id: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Candidate:
    quote: SummarySentence
    words: frozenset[str]
    score: float


def summary(
    messages: Sequence[Message], led_here: str, shown: Spans, facts: Spans
) -> tuple[SummarySentence, ...]:
    """Extractive summary of the customer's messages, at most SENTENCES_MAX sentences.

    `led_here` is the message that led to a person; `shown` and `facts` are where signals and facts
    stand. Pure, deterministic and bounded.
    """
    own = [message for message in messages if message.author == "user"]
    candidates = _candidates(own, led_here, shown, facts)
    chosen: list[_Candidate] = []
    while candidates and len(chosen) < SENTENCES_MAX:
        values = [candidate.score * _diverse(candidate, chosen) for candidate in candidates]
        best = max(range(len(candidates)), key=lambda place: (values[place], -place))
        if values[best] <= 0.0:
            break
        chosen.append(candidates.pop(best))
    order = {message.id: place for place, message in enumerate(own)}
    summary_sentences = [candidate.quote for candidate in chosen]
    return tuple(
        sorted(summary_sentences, key=lambda sentence: (order[sentence.message_id], sentence.start))
    )


def _diverse(candidate: _Candidate, chosen: Sequence[_Candidate]) -> float:
    similar = max((similarity(candidate.words, other.words) for other in chosen), default=0.0)
    from_same = sum(candidate.quote.message_id == other.quote.message_id for other in chosen)
    return (1.0 - similar) * 0.5**from_same


def _candidates(
    own_messages: Sequence[Message], led_here: str, shown: Spans, facts: Spans
) -> list[_Candidate]:
    places = [(message, *span) for message in own_messages for span in sentences(message.text)]
    if len(places) > CANDIDATES_MAX:
        places = places[: CANDIDATES_MAX // 2] + places[-CANDIDATES_MAX // 2 :]
    tokens = [words(message.text[start:stop]) for message, start, stop in places]
    spread = _spread(places, tokens)
    opening = next(
        (
            m.id
            for (m, _, _), candidates in zip(places, tokens, strict=True)
            if len(candidates) >= SAYING_WORDS
        ),
        own_messages[0].id if own_messages else "",
    )
    candidates: list[_Candidate] = []
    for (message, start, stop), own in zip(places, tokens, strict=True):
        distinct = frozenset(own)
        relevance = (
            _salience(distinct, spread)
            + 0.4 * (message.id == opening)
            + 0.4 * (message.id == led_here)
            + 0.3 * _overlaps(shown.get(message.id, ()), start, stop)
            + 0.3 * _overlaps(facts.get(message.id, ()), start, stop)
        )
        score = min(1.0, len(own) / SAYING_WORDS) * relevance
        quote = SummarySentence(message.text[start:stop], message.id, start, stop)
        candidates.append(_Candidate(quote, distinct, score))
    return candidates


def _spread(
    places: Sequence[tuple[Message, int, int]], tokens: Sequence[tuple[str, ...]]
) -> Mapping[str, int]:
    """In how many messages each word stands."""
    by_message: dict[str, dict[str, None]] = {}
    for (message, _, _), own in zip(places, tokens, strict=True):
        by_message.setdefault(message.id, {}).update(dict.fromkeys(own))
    return Counter(word for own in by_message.values() for word in own)


def _salience(distinct: frozenset[str], spread: Mapping[str, int]) -> float:
    """The share of letters in words that stand in other messages, too."""
    letters = sum(map(len, distinct))
    return sum(len(word) for word in distinct if spread[word] > 1) / letters if letters else 0.0


def _overlaps(spans: Sequence[tuple[int, int]], start: int, stop: int) -> bool:
    return any(first < stop and start < last for first, last in spans)
