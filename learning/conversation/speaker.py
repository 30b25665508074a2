"""Per-speaker state of a conversation (customer or bot): repetition, novelty and dialogue cues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from learning.text.dialogue_cues import cues
from learning.text.similarity import letters, likeness

MEMORY = 8
"""How many earlier messages, ids and attempts of each kind are remembered."""

REPEATS_FROM = 0.7
"""Two messages this similar (see `words.similarity`) ask nearly the same thing."""

REPEATS_WORDS = 3
"""Messages of fewer distinct words ("yes", "thank you") are never a repeated question."""

NEAR = (0.4, 0.7, 0.95)
"""From where on earlier messages count as alike, nearly the same, the same."""

ANSWERS = frozenset({"assent", "denial", "thanks", "closing"})
"""Cues of messages that may be said often, to one question after another."""

SETBACKS = frozenset({"change", "more", "failure"})
"""Cues by which a message turns away from what was offered or asked."""


@dataclass(frozen=True, slots=True)
class SpeakerState:
    """The messages of one side so far, seen from its newest. Its size has a bound.

    words, before: the newest message's words, and those of the one before it.
    ids, distinct_words, letters: of the newest messages, oldest first, the ids, the distinct words,
        and how many letters those have. Plain tuples, for thousands of conversations are held in
        memory: sets would take twice the room, and Python's collector would visit each of them.
    run: how many messages in a row the newest one ends.
    repeats: how often the newest message has now been said, nearly the same; 1 = first time.
    repeat_ids: the messages that say so.
    short_repeats: how often a message of a word or two ("refund") was said by now; 1 = first time.
    nearest, latest: greatest similarity to a remembered message; similarity to the last one.
    near: how many remembered messages are at least NEAR similar.
    known_share, echoed_share: share of the newest words that this side, or the other, had used.
    cues, cues_before: dialogue cues of the newest message and of the one before it.
    act: the newest message in a word or two: its cues, its length, how new it was.
    """

    turns: int = 0
    run: int = 0
    words: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    distinct_words: tuple[tuple[str, ...], ...] = ()
    letters: tuple[int, ...] = ()
    repeats: int = 1
    repeat_ids: tuple[str, ...] = ()
    short_repeats: int = 1
    nearest: float = -1.0
    latest: float = 0.0
    near: tuple[int, ...] = (0, 0, 0)
    known_share: float = 0.0
    echoed_share: float = 0.0
    cues: tuple[str, ...] = ()
    cues_before: tuple[str, ...] = ()
    act: str = ""


def add_message(
    side: SpeakerState,
    message_id: str,
    tokens: tuple[str, ...],
    other: SpeakerState,
    *,
    again: bool,
) -> SpeakerState:
    """The speaker's state after one more message; `again` if that side also sent the last one."""
    unique = tuple(dict.fromkeys(tokens))
    distinct, length = frozenset(unique), letters(unique)
    common = [distinct.intersection(earlier) for earlier in side.distinct_words]
    similarities = [
        likeness(shared, length, other_length)
        for shared, other_length in zip(common, side.letters, strict=True)
    ]
    repeat_ids = []
    if len(unique) >= REPEATS_WORDS:
        repeat_ids = [
            earlier_id
            for earlier_id, similarity in zip(side.ids, similarities, strict=True)
            if similarity >= REPEATS_FROM
        ]
    nearest, own_cues = max(similarities, default=-1.0), cues(distinct)
    return SpeakerState(
        turns=side.turns + 1,
        run=side.run + 1 if again else 1,
        words=tokens,
        before=side.words,
        ids=(*side.ids, message_id)[-MEMORY:],
        distinct_words=(*side.distinct_words, unique)[-MEMORY:],
        letters=(*side.letters, length)[-MEMORY:],
        repeats=1 + len(repeat_ids),
        repeat_ids=(*repeat_ids, message_id),
        short_repeats=_short_repeats(side, unique, own_cues),
        nearest=nearest,
        latest=similarities[-1] if similarities else 0.0,
        near=_near(similarities) if nearest >= NEAR[0] else (0, 0, 0),
        known_share=_share(common, distinct),
        echoed_share=_share(
            [distinct.intersection(earlier) for earlier in other.distinct_words], distinct
        ),
        cues=own_cues,
        cues_before=side.cues,
        act=_act(own_cues, len(tokens), nearest),
    )


def forget(side: SpeakerState, message_id: str) -> SpeakerState:
    """The speaker's state without a remembered message, which a newer version of it replaces."""
    if message_id not in side.ids:
        return side
    places = [place for place, name in enumerate(side.ids) if name != message_id]
    return replace(
        side,
        ids=tuple(side.ids[place] for place in places),
        distinct_words=tuple(side.distinct_words[place] for place in places),
        letters=tuple(side.letters[place] for place in places),
    )


def reply_similarity(speaker: SpeakerState, other: SpeakerState) -> float:
    """Similarity (0 to 1) of the newest messages of two sides; 0 where one has none."""
    if not (speaker.distinct_words and other.distinct_words):
        return 0.0
    shared = frozenset(speaker.distinct_words[-1]).intersection(other.distinct_words[-1])
    return likeness(shared, speaker.letters[-1], other.letters[-1])


def _short_repeats(side: SpeakerState, unique: tuple[str, ...], own_cues: Sequence[str]) -> int:
    """How often a short message was said, itself counted; answers and numbers are no repeats."""
    short = 0 < len(unique) < REPEATS_WORDS + 1
    if not short or not ANSWERS.isdisjoint(own_cues) or all(word.isdigit() for word in unique):
        return 1
    return 1 + side.distinct_words.count(unique)


def _near(similarities: Sequence[float]) -> tuple[int, ...]:
    return tuple([sum([similarity >= least for similarity in similarities]) for least in NEAR])


def _share(common: Sequence[frozenset[str]], distinct: frozenset[str]) -> float:
    """The share of the distinct words that stand among what is common with earlier messages."""
    return len(frozenset[str]().union(*common)) / len(distinct) if distinct else 0.0


def _act(own_cues: tuple[str, ...], length: int, nearest: float) -> str:
    size = "tiny" if length <= 3 else "short" if length <= 8 else "long" if length <= 18 else "huge"
    if nearest < 0.0:
        return " ".join((*own_cues, size))
    new = nearest > 0.9, nearest > 0.5, nearest > 0.2
    return " ".join((*own_cues, size, ("new", "akin", "alike", "same")[sum(new)]))
