"""Stacking of advice: probabilities from elsewhere (an LLM judge, a router), each one more expert,
trusted as far as it earns.

Each adviser's log odds are recalibrated by a line of their own (Platt scaling) and mixed with the
model's in learned shares that forget. An adviser that says nothing of a message counts as one that
says what the model says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from learning.models.kalman import KalmanLogistic

ADVISERS_MAX = 8
"""Most advisers that a workspace learns to trust; the names that come after them are not heard."""

SHARE = 0.25
"""The advisers' say at first, divided by their number."""

FORGETTING = 0.9995
"""Memory of some 2000 labels: an adviser that turns bad loses its say soon."""

MIXING, LINE = 0.1, (0.2, 0.3)
"""Prior variances of a share, and of an adviser's slope and offset."""

WEIGHT_MAX = 4.0
_MARGIN_MAX = 8.0
_P_MIN = 1e-4

Advice = Sequence[tuple[str, float]]


class Advisers:
    """Online stacking of advisers on top of a model's log odds; learned by Kalman filters."""

    def __init__(self) -> None:
        self._lines: dict[str, KalmanLogistic] = {}
        self._shares = KalmanLogistic([1.0], [MIXING], FORGETTING)

    @property
    def names(self) -> tuple[str, ...]:
        """The advisers that have been heard, the first one first."""
        return tuple(self._lines)

    @property
    def shares(self) -> dict[str, float]:
        """Each adviser's share of the log odds."""
        return dict(zip(self._lines, self._shares.theta[1:], strict=True))

    def margin(self, own: float, advice: Advice) -> float:
        """The log odds of the model and its advisers. Changes nothing."""
        if not advice:
            return own
        new = self._unheard(advice)
        theta = self._widened(len(new))
        inputs = self._inputs(own, dict(advice), new)
        return sum(t * x for t, x in zip(theta, inputs, strict=True)) if theta else own

    def learn(self, own: float, advice: Advice, y: float, w: float) -> None:
        """Learn what a label says of the advisers that had spoken."""
        if not advice:
            return
        for name in self._unheard(advice):
            self._hear(name)
        said, weight = dict(advice), min(w, WEIGHT_MAX)
        self._shares.learn(self._inputs(own, said), y, weight)
        for name, line in self._lines.items():
            if name in said:
                line.learn(_line_inputs(said[name]), y, weight)

    def _unheard(self, advice: Advice) -> list[str]:
        new = sorted({name for name, _ in advice} - self._lines.keys())
        return new[: ADVISERS_MAX - len(self._lines)]

    def _widened(self, count: int) -> list[float]:
        """The shares with so many new advisers, who take theirs from the model's own."""
        if not count:
            return self._shares.theta
        share = SHARE / (len(self._lines) + count)
        own, *others = self._shares.theta
        return [own - count * share, *others, *[share] * count]

    def _hear(self, name: str) -> None:
        theta = self._widened(1)
        wider = KalmanLogistic(theta, [MIXING] * len(theta), FORGETTING)
        for row, known in zip(wider.cov, self._shares.cov, strict=False):
            row[: len(known)] = known
        self._shares = wider
        self._lines[name] = _new_line()

    def _inputs(
        self, own: float, said: Mapping[str, float], new: Sequence[str] = ()
    ) -> list[float]:
        lines = {**self._lines, **{name: _new_line() for name in new}}
        return [own, *(_voice(line, said[n]) if n in said else own for n, line in lines.items())]

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The learned state as JSON scalars (and no arrays)."""
        lines = [[name, line.dump()] for name, line in self._lines.items()]
        return {"lines": lines, "shares": self._shares.dump()}, {}

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore a dumped state exactly. Raises ValueError for what cannot be a state."""
        if arrays or len(meta["lines"]) > ADVISERS_MAX:
            raise ValueError(f"at most {ADVISERS_MAX} advisers, and no arrays")
        other = Advisers()
        for name, line in meta["lines"]:
            other._hear(str(name))
            other._lines[str(name)].load(line)
        other._shares.load(meta["shares"])
        self.__dict__.update(other.__dict__)


def _new_line() -> KalmanLogistic:
    return KalmanLogistic((1.0, 0.0), LINE)


def _line_inputs(p: float) -> tuple[float, float]:
    p = min(max(p, _P_MIN), 1.0 - _P_MIN)
    return math.log(p / (1.0 - p)), 1.0


def _voice(line: KalmanLogistic, p: float) -> float:
    return min(max(line.margin(_line_inputs(p)), -_MARGIN_MAX), _MARGIN_MAX)
