"""What a conversation remembers of one side: of the customer, or of the bot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from learning.cues import cues
from learning.words import letters, likeness

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


class Heard(NamedTuple):
    """A message that is remembered: its id, its distinct words and how many letters they have."""

    id: str
    words: frozenset[str]
    letters: int


@dataclass(frozen=True, slots=True)
class Side:
    """The messages of one side so far, seen from its newest. Its size has a bound.

    words, before: the newest message's words, and those of the one before it.
    memory: the newest messages, oldest first.
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
    memory: tuple[Heard, ...] = ()
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


def says(side: Side, message_id: str, said: tuple[str, ...], other: Side, *, again: bool) -> Side:
    """The side after one more message of `said` words; `again` if it also said the last one."""
    now = Heard(message_id, distinct := frozenset(said), letters(distinct))
    common = [distinct & heard.words for heard in side.memory]
    alike = [
        likeness(shared, now.letters, heard.letters)
        for shared, heard in zip(common, side.memory, strict=True)
    ]
    same = []
    if len(distinct) >= REPEATS_WORDS:
        same = [
            heard.id for heard, how in zip(side.memory, alike, strict=True) if how >= REPEATS_FROM
        ]
    nearest, given = max(alike, default=-1.0), cues(distinct)
    return Side(
        turns=side.turns + 1,
        run=side.run + 1 if again else 1,
        words=said,
        before=side.words,
        memory=(*side.memory, now)[-MEMORY:],
        repeats=1 + len(same),
        repeat_ids=(*same, message_id),
        nearest=nearest,
        latest=alike[-1] if alike else 0.0,
        near=_near(alike) if nearest >= NEAR[0] else (0, 0, 0),
        known=_share(common, distinct),
        echoed=_share([distinct & heard.words for heard in other.memory], distinct),
        cues=given,
        cues_before=side.cues,
        act=_act(given, len(said), nearest),
    )


def answered(one: Side, other: Side) -> float:
    """How alike the newest messages of two sides are."""
    if not (one.memory and other.memory):
        return 0.0
    mine, theirs = one.memory[-1], other.memory[-1]
    return likeness(mine.words & theirs.words, mine.letters, theirs.letters)


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
