"""A summary that invents nothing: a few of the customer's own sentences, with their places.

Each sentence of the customer gets a score, in any language, without a model:

    share * (matter + 0.4 opening + 0.4 latest + 0.3 shown + 0.3 facts)

`matter` is how much of it the customer said in other messages too (by letters of distinct words,
0 to 1), `opening` and `latest` whether it stands in the first message with something to say and in
the one that led here, `shown` and `facts` whether a signal's words or a fact stand in it, and
`share` how far it reaches SAYING_WORDS words: a greeting says little. The best is taken, then each
time the best of what is left by score * (1 - likeness to what was taken), halved for each that was
taken from the same message; of equals the first. They are told in the conversation's order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from learning.conversation.state import Message
from learning.text.sentences import sentences
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
    """The customer's few most telling sentences. `led_here` is the message that led to a person;
    `shown` and `facts` are where signals and facts stand. Pure, deterministic and bounded.
    """
    theirs = [message for message in messages if message.author == "user"]
    left = _candidates(theirs, led_here, shown, facts)
    taken: list[_Candidate] = []
    while left and len(taken) < SENTENCES_MAX:
        worth = [one.score * _diverse(one, taken) for one in left]
        best = max(range(len(left)), key=lambda place: (worth[place], -place))
        if worth[best] <= 0.0:
            break
        taken.append(left.pop(best))
    order = {message.id: place for place, message in enumerate(theirs)}
    quotes = [one.quote for one in taken]
    return tuple(sorted(quotes, key=lambda quote: (order[quote.message_id], quote.start)))


def _diverse(one: _Candidate, taken: Sequence[_Candidate]) -> float:
    alike = max((similarity(one.words, other.words) for other in taken), default=0.0)
    beside = sum(one.quote.message_id == other.quote.message_id for other in taken)
    return (1.0 - alike) * 0.5**beside


def _candidates(
    theirs: Sequence[Message], led_here: str, shown: Spans, facts: Spans
) -> list[_Candidate]:
    places = [(message, *span) for message in theirs for span in sentences(message.text)]
    if len(places) > CANDIDATES_MAX:
        places = places[: CANDIDATES_MAX // 2] + places[-CANDIDATES_MAX // 2 :]
    said = [words(message.text[start:stop]) for message, start, stop in places]
    spread = _spread(places, said)
    opening = next(
        (m.id for (m, _, _), found in zip(places, said, strict=True) if len(found) >= SAYING_WORDS),
        theirs[0].id if theirs else "",
    )
    found: list[_Candidate] = []
    for (message, start, stop), these in zip(places, said, strict=True):
        distinct = frozenset(these)
        telling = (
            _salience(distinct, spread)
            + 0.4 * (message.id == opening)
            + 0.4 * (message.id == led_here)
            + 0.3 * _overlaps(shown.get(message.id, ()), start, stop)
            + 0.3 * _overlaps(facts.get(message.id, ()), start, stop)
        )
        score = min(1.0, len(these) / SAYING_WORDS) * telling
        quote = SummarySentence(message.text[start:stop], message.id, start, stop)
        found.append(_Candidate(quote, distinct, score))
    return found


def _spread(
    places: Sequence[tuple[Message, int, int]], said: Sequence[tuple[str, ...]]
) -> Mapping[str, int]:
    """In how many messages each word stands."""
    by_message: dict[str, dict[str, None]] = {}
    for (message, _, _), these in zip(places, said, strict=True):
        by_message.setdefault(message.id, {}).update(dict.fromkeys(these))
    return Counter(word for these in by_message.values() for word in these)


def _salience(distinct: frozenset[str], spread: Mapping[str, int]) -> float:
    """The share of letters in words that stand in other messages, too."""
    letters = sum(map(len, distinct))
    return sum(len(word) for word in distinct if spread[word] > 1) / letters if letters else 0.0


def _overlaps(spans: Sequence[tuple[int, int]], start: int, stop: int) -> bool:
    return any(first < stop and start < last for first, last in spans)
