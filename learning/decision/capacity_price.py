"""Capacity constraint by a dual (shadow) price on escalating: online gradient descent.

th <- th + eta (escalated - capacity), after each decision `escalate iff q >= th`. Whatever the
sequence of probabilities, adversarial ones included, the mean number escalated over T decisions
stays within (1 + eta) / (eta T) of the capacity, because th, left unclipped, can leave [0, 1] by
no more than eta before the decisions push it back. (Online gradient descent on the dual; the same
argument as for adaptive conformal inference, Gibbs and Candes 2021, proposition 4.1.)
"""

from __future__ import annotations

from dataclasses import dataclass

ETA = 0.5
"""How far a move of the price goes, for a batch of decisions that were all handed over."""


@dataclass(frozen=True, slots=True)
class ShadowPrice:
    """Dual variable of a capacity constraint: the threshold that the capacity needs just now.

    `capacity` is a share of decisions, in (0, 1). ValueError outside; so for eta.
    """

    threshold: float
    capacity: float
    eta: float = 0.02

    def __post_init__(self) -> None:
        if not (0 < self.capacity < 1 and 0 < self.eta <= 1):
            raise ValueError("capacity lies between 0 and 1, eta in (0, 1]")

    def escalates(self, probability: float) -> bool:
        """Whether to escalate, by the unclipped threshold, or the bound would not hold."""
        return probability >= self.threshold

    def after(self, escalated: int, decisions: int = 1) -> ShadowPrice:
        """The price after some decisions, of which so many were escalated.

        Moved once a batch, the bound becomes (1 + eta B) / (eta T) for batches of at most B.
        """
        threshold = self.threshold + self.eta * (escalated - self.capacity * decisions)
        return ShadowPrice(threshold, self.capacity, self.eta)

    def bound(self, decisions: int, batch: int = 1) -> float:
        """How far the escalated share can be from the capacity after so many decisions."""
        return (1 + self.eta * batch) / (self.eta * decisions)


def next_price(price: float, share: float, capacity: float, eta: float = ETA) -> float:
    """Dual price of a capacity after one more batch of decisions, `share` of them handed over.

    A capacity is a limit and not a goal, so the price stays at 0 where there are people enough;
    it ends at 1 + eta, beyond which only rules hand over. As long as nothing is handed over at a
    price above 1, the mean share of T batches that start at price 0 is at most
    capacity + (1 + eta) / (eta T), whatever comes: the price rises by eta (share - capacity) each
    time at least, and never beyond 1 + eta. ValueError for a share outside 0..1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies between 0 and 1, not {share}")
    return min(max(0.0, price + eta * (share - capacity)), 1.0 + eta)
