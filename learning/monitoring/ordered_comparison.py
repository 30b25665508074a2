"""Sequential test of two lines fed in the order of the world: conversations by their end, and none
before an earlier one on which they differ has its answer.

What the champion handed over is known at once, what only the challenger would have handed over by
audits that come late or never. Fed as answers arrive, two equal lines look unequal; fed in the
order in which the conversations ended, each gain has its true mean and the test its level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from learning.monitoring.promotion_evidence import FixedChallengerTest, LearningChallengerTest

ITEMS_MAX = 2000
"""Differing conversations that are held one by one: so long a corrected verdict corrects."""


@dataclass(slots=True)
class DifferingConversation:
    """A conversation whose truth was to become known and on which the two lines differ.

    `agreeing` comparable conversations came between the one before and it. `fine` and `missed` are
    the gains where nobody was needed and where a person was. `answered` with `needed` None: nobody
    can know.
    """

    name: str
    conversation: str
    at: float
    agreeing: int
    propensity: float
    fine: float
    missed: float
    segments: tuple[str, ...] = ()
    answered: bool = False
    needed: bool | None = None

    def gain(self, now: float, patience: float) -> float | None:
        """Its gain; the worst one where it stays unanswered too long; None while one waits."""
        if self.answered:
            return 0.0 if self.needed is None else self.missed if self.needed else self.fine
        return min(self.fine, self.missed) if now - self.at > patience else None

    def body(self) -> list[Any]:
        """As plain JSON; `DifferingConversation(*body)` reads it back."""
        return [
            *(self.name, self.conversation, self.at, self.agreeing, self.propensity),
            *(self.fine, self.missed, list(self.segments), self.answered, self.needed),
        ]


@dataclass(slots=True)
class OrderedComparison:
    """The test of a challenger, and the differing conversations that are not folded into it yet.

    `agreeing` comparable conversations came after the last of them; `out_of_budget` ones ended
    while the disagreement draw did not have its full chance, and do not count.
    """

    test: FixedChallengerTest | LearningChallengerTest
    items: list[DifferingConversation] = field(default_factory=list)
    agreeing: int = 0
    out_of_budget: int = 0

    def agree(self, conversations: int = 1) -> None:
        """The next conversations, on which both act alike, or whose truth was not drawn."""
        self.agreeing += conversations

    def differ(self, item: DifferingConversation) -> None:
        """The next conversation on which they differ; its `agreeing` is set here."""
        item.agreeing, self.agreeing = self.agreeing, 0
        self.items.append(item)

    @property
    def waiting(self) -> int:
        """Differing conversations without an answer."""
        return sum(not item.answered for item in self.items)

    def settled(self, now: float, patience: float) -> list[tuple[DifferingConversation, float]]:
        """Those up to the oldest that waits, each with its gain."""
        pairs = []
        for item in self.items:
            gain = item.gain(now, patience)
            if gain is None:
                break
            pairs.append((item, gain))
        return pairs

    def evidence(self, now: float, patience: float) -> FixedChallengerTest | LearningChallengerTest:
        """The test brought up to the oldest conversation that waits for its answer."""
        test, pairs = self.test.copy(), self.settled(now, patience)
        _learn(test, pairs)
        if len(pairs) == len(self.items):
            test.skip(self.agreeing)
        return test

    def fold(
        self, now: float, patience: float, most: int = ITEMS_MAX
    ) -> list[tuple[DifferingConversation, float]]:
        """Learn the oldest settled ones for good where more than `most` are held; gives them."""
        pairs = self.settled(now, patience)[: max(0, len(self.items) - most)]
        _learn(self.test, pairs)
        del self.items[: len(pairs)]
        return pairs

    def dump(self) -> dict[str, Any]:
        """Exact state as plain JSON."""
        return {
            "test": self.test.dump(),
            "items": [item.body() for item in self.items],
            "agreeing": self.agreeing,
            "out_of_budget": self.out_of_budget,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore a dumped state exactly."""
        self.test.load(state["test"])
        self.items = [_item(body) for body in state["items"]]
        self.agreeing, self.out_of_budget = int(state["agreeing"]), int(state["out_of_budget"])


def _item(body: Sequence[Any]) -> DifferingConversation:
    item = DifferingConversation(*body)
    item.segments = tuple(item.segments)
    return item


def _learn(
    test: FixedChallengerTest | LearningChallengerTest,
    pairs: Sequence[tuple[DifferingConversation, float]],
) -> None:
    for item, gain in pairs:
        test.skip(item.agreeing)
        test.learn(gain, item.propensity)
