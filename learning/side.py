"""What a conversation remembers of one side: of the customer, or of the bot."""

from __future__ import annotations

from dataclasses import dataclass

from learning.cues import cues
from learning.words import similarity

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
class Side:
    """The messages of one side so far, seen from its newest. Its size has a bound.

    words, before: the newest message's words, and those of the one before it.
    memory: ids and distinct words of the newest messages, oldest first.
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
    memory: tuple[tuple[str, frozenset[str]], ...] = ()
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
    distinct = frozenset(said)
    alike = [similarity(distinct, earlier) for _, earlier in side.memory]
    same = []
    if len(distinct) >= REPEATS_WORDS:
        same = [
            known for (known, _), how in zip(side.memory, alike, strict=True) if how >= REPEATS_FROM
        ]
    nearest, given = max(alike, default=-1.0), cues(said)
    return Side(
        turns=side.turns + 1,
        run=side.run + 1 if again else 1,
        words=said,
        before=side.words,
        memory=(*side.memory, (message_id, distinct))[-MEMORY:],
        repeats=1 + len(same),
        repeat_ids=(*same, message_id),
        nearest=nearest,
        latest=alike[-1] if alike else 0.0,
        near=tuple([sum([how >= least for how in alike]) for least in NEAR]),
        known=_share(distinct, side),
        echoed=_share(distinct, other),
        cues=given,
        cues_before=side.cues,
        act=_act(given, len(said), nearest),
    )


def _share(distinct: frozenset[str], side: Side) -> float:
    """The share of the distinct words that a side's remembered messages hold."""
    if not distinct or not side.memory:
        return 0.0
    used = frozenset[str]().union(*[earlier for _, earlier in side.memory])
    return len(distinct & used) / len(distinct)


def _act(given: tuple[str, ...], length: int, nearest: float) -> str:
    size = "tiny" if length <= 3 else "short" if length <= 8 else "long" if length <= 18 else "huge"
    if nearest < 0.0:
        return " ".join((*given, size))
    new = nearest > 0.9, nearest > 0.5, nearest > 0.2
    return " ".join((*given, size, ("new", "akin", "alike", "same")[sum(new)]))
