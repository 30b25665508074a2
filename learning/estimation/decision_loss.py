"""Decision loss of a conversation: what the action that the policy takes costs, once it is known
whether a person was needed.

The one loss by which lines are compared, in tests and in reports alike. It is the loss whose
expectation the policy's thresholds minimise (`Policy.cost_thresholds`), so a calibrated line is
beaten by no other line that knows the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from learning.decision.policy import Policy

Floats = NDArray[np.float64]
Levels = NDArray[np.int64]

CONTINUE, OFFER, ESCALATE = 0, 1, 2
"""A conversation's level is the strongest action of its messages."""

LEVELS = {"continue": CONTINUE, "offer": OFFER, "escalate": ESCALATE}


@dataclass(frozen=True, slots=True)
class DecisionLoss:
    """Thresholds of the actions, and what each action costs.

    Continuing costs `lost` * `missed` where a person was needed; an offer `ask`, the same for the
    share that declines, and `unneeded` for those who accept without need; escalating `unneeded`
    where nobody was needed. Where `offer` equals `escalate` nothing is offered.
    """

    escalate: float
    unneeded: float
    missed: float
    offer: float | None = None
    ask: float = 0.0
    accepted_needed: float = 0.0
    accepted_unneeded: float = 0.0
    lost: float = 1.0
    first_offer: bool = True

    @classmethod
    def of(cls, policy: Policy) -> Self:
        """The loss under a policy, with the prices that `jobs` moved."""
        thresholds, costs, accepting = policy.thresholds, policy.costs, policy.accepting
        return cls(
            thresholds.escalate,
            costs.unneeded,
            costs.missed,
            thresholds.offer,
            costs.ask,
            accepting.needed,
            accepting.unneeded,
            policy.lost,
            policy.offers.first_message,
        )

    def levels(self, probability: ArrayLike, opening: ArrayLike = False) -> Levels:
        """The action at each probability; `opening`: it is of a customer's first message, at which
        the policy may not offer.
        """
        p = np.asarray(probability, np.float64)
        may_offer = self.first_offer | ~np.asarray(opening, bool)
        bar = self.escalate if self.offer is None else self.offer
        offers = np.where(may_offer & (p >= bar), OFFER, CONTINUE)
        return np.asarray(np.where(p >= self.escalate, ESCALATE, offers), np.int64)

    def losses(self, level: ArrayLike, needed: ArrayLike) -> Floats:
        """What actions cost, each by whether a person was needed."""
        table = np.array([self._costs(needed=False), self._costs(needed=True)])
        rows = np.asarray(needed, bool).astype(np.int64)
        return np.asarray(table[rows, np.asarray(level, np.int64)], np.float64)

    def _costs(self, *, needed: bool) -> tuple[float, float, float]:
        waiting = self.lost * self.missed
        if needed:
            return waiting, self.ask + (1 - self.accepted_needed) * waiting, 0.0
        return 0.0, self.ask + self.accepted_unneeded * self.unneeded, self.unneeded

    @property
    def _model_costs(self) -> tuple[tuple[float, ...], ...]:
        """The costs of the actions that the model takes, where nobody is needed and where one is:
        without the offer, where none is made.
        """
        offers = self.offer is not None and self.offer < self.escalate
        levels = (CONTINUE, OFFER, ESCALATE) if offers else (CONTINUE, ESCALATE)
        rows = (self._costs(needed=False), self._costs(needed=True))
        return tuple(tuple(row[level] for level in levels) for row in rows)

    @property
    def unit(self) -> float:
        """The greatest difference between two actions of the model."""
        return max(max(costs) - min(costs) for costs in self._model_costs)

    @property
    def largest(self) -> float:
        """The greatest loss by an action of the model."""
        return max(max(costs) for costs in self._model_costs)

    def gains(self, champion: int, challenger: int) -> tuple[float, float]:
        """What the challenger's action saves, in units of the greatest difference: where nobody
        was needed, and where a person was. A rule's offer costs no more than that.
        """
        fine, missed = (
            self._costs(needed=needed)[champion] - self._costs(needed=needed)[challenger]
            for needed in (False, True)
        )
        return min(max(fine / self.unit, -1.0), 1.0), min(max(missed / self.unit, -1.0), 1.0)
