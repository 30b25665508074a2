"""What a conversation remembers of one side: of the customer, or of the bot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

SETBACKS = frozenset({"change", "more", "failure"})
"""Cues by which a message turns away from what was offered or asked."""


@dataclass(frozen=True, slots=True)
class SpeakerState:
    """The messages of one side so far, seen from its newest. Its size has a bound.

    words, before: the newest message's words, and those of the one before it.
    ids, heard, letters: of the newest messages, oldest first, the ids, the distinct words, and how
        many letters those have. Plain tuples, for thousands of conversations are remembered: sets
        would take twice the room, and Python's collector would visit each of them.
    run: how many messages in a row the newest one ends.
    repeats: how often the newest message has now been said, nearly the same; 1 = first time.
    repeat_ids: the messages that say so.
    nearest, latest: greatest similarity to a remembered message; similarity to the last one.
    near: how many remembered messages are at least NEAR similar.
    known, echoed: share of the newest words that this side, or the other, had used before.
    cues, cues_before: what the newest message and the one before it give away.
    act: the newest message in a word or two: its cues, its length, how new it was.
    """

    turns: int = 0
    run: int = 0
    words: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    heard: tuple[tuple[str, ...], ...] = ()
    letters: tuple[int, ...] = ()
    repeats: int = 1
    repeat_ids: tuple[str, ...] = ()
    nearest: float = -1.0
    latest: float = 0.0
    near: tuple[int, ...] = (0, 0, 0)
    known: float = 0.0
    echoed: float = 0.0
    cues: tuple[str, ...] = ()
    cues_before: tuple[str, ...] = ()
    act: str = ""


def add_message(
    side: SpeakerState, message_id: str, said: tuple[str, ...], other: SpeakerState, *, again: bool
) -> SpeakerState:
    """The side after one more message of `said` words; `again` if it also said the last one."""
    kept = tuple(dict.fromkeys(said))
    distinct, length = frozenset(kept), letters(kept)
    common = [distinct.intersection(earlier) for earlier in side.heard]
    alike = [
        likeness(shared, length, other_length)
        for shared, other_length in zip(common, side.letters, strict=True)
    ]
    same = []
    if len(kept) >= REPEATS_WORDS:
        same = [known for known, how in zip(side.ids, alike, strict=True) if how >= REPEATS_FROM]
    nearest, given = max(alike, default=-1.0), cues(distinct)
    return SpeakerState(
        turns=side.turns + 1,
        run=side.run + 1 if again else 1,
        words=said,
        before=side.words,
        ids=(*side.ids, message_id)[-MEMORY:],
        heard=(*side.heard, kept)[-MEMORY:],
        letters=(*side.letters, length)[-MEMORY:],
        repeats=1 + len(same),
        repeat_ids=(*same, message_id),
        nearest=nearest,
        latest=alike[-1] if alike else 0.0,
        near=_near(alike) if nearest >= NEAR[0] else (0, 0, 0),
        known=_share(common, distinct),
        echoed=_share([distinct.intersection(heard) for heard in other.heard], distinct),
        cues=given,
        cues_before=side.cues,
        act=_act(given, len(said), nearest),
    )


def add_reply(one: SpeakerState, other: SpeakerState) -> float:
    """How alike the newest messages of two sides are."""
    if not (one.heard and other.heard):
        return 0.0
    shared = frozenset(one.heard[-1]).intersection(other.heard[-1])
    return likeness(shared, one.letters[-1], other.letters[-1])


def _near(alike: Sequence[float]) -> tuple[int, ...]:
    return tuple([sum([how >= least for how in alike]) for least in NEAR])


def _share(common: Sequence[frozenset[str]], distinct: frozenset[str]) -> float:
    """The share of the distinct words that stand among what is common with earlier messages."""
    return len(frozenset[str]().union(*common)) / len(distinct) if distinct else 0.0


def _act(given: tuple[str, ...], length: int, nearest: float) -> str:
    size = "tiny" if length <= 3 else "short" if length <= 8 else "long" if length <= 18 else "huge"
    if nearest < 0.0:
        return " ".join((*given, size))
    new = nearest > 0.9, nearest > 0.5, nearest > 0.2
    return " ".join((*given, size, ("new", "akin", "alike", "same")[sum(new)]))
