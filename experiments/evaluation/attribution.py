"""Feature attribution: the features with the greatest effect on the log odds, with spread.

A word is named only if at least WORD_CONVERSATIONS of the sampled conversations used it, so that it
cannot be traced to one of them (k-anonymity).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from learning.models.hashed_features import HashedClassifier, Row

WORD_CONVERSATIONS = 20
TOP = 20
"""Names that are shown of each kind: what was seen of a conversation, and words."""


@dataclass(frozen=True, slots=True)
class FeatureInfluence:
    """The effect of one feature on the model.

    `effect` is by how much it moves the log odds alone, at the value it typically has (the root
    mean square over the messages that have it), and `spread` the standard deviation of that, 0
    where the model tells none. `share` is that of the messages that have it.
    """

    name: str
    effect: float
    spread: float
    value: float
    share: float
    conversations: int


class InfluenceSample:
    """Sample of messages' features, conversation by conversation."""

    def __init__(self) -> None:
        self._messages = 0
        self._found: Counter[str] = Counter()
        self._within: Counter[str] = Counter()
        self._squares: dict[str, float] = {}

    def add(self, messages: Iterable[Mapping[str, float]]) -> None:
        """The scored messages of one conversation."""
        here: set[str] = set()
        for x in messages:
            self._messages += 1
            for name, value in x.items():
                if value:
                    self._found[name] += 1
                    self._squares[name] = self._squares.get(name, 0.0) + value * value
                    here.add(name)
        self._within.update(sorted(here))

    def influences(self, model: HashedClassifier, most: int = TOP) -> list[FeatureInfluence]:
        """The names that move the model most over these messages, of each kind at most so many."""
        bias, base = model.margin_row(Row({}, model.buckets))
        influences = []
        for name, count in sorted(self._found.items()):
            if "=" in name and self._within[name] < WORD_CONVERSATIONS:
                continue
            value = math.sqrt(self._squares[name] / count)
            margin, variance = model.margin_row(Row({name: value}, model.buckets))
            spread = math.sqrt(max(0.0, variance - base))
            share = count / self._messages
            influences.append(
                FeatureInfluence(name, margin - bias, spread, value, share, self._within[name])
            )
        influences.sort(
            key=lambda influence: (-abs(influence.effect) * influence.share, influence.name)
        )
        context = [influence for influence in influences if "=" not in influence.name][:most]
        return context + [influence for influence in influences if "=" in influence.name][:most]
