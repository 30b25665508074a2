"""Several experts and one voice: logistic mixing of experts that rehearse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.columns import Columns
from learning.hashing import BUCKETS, RESERVED, Floats, HashedClassifier, Row, sigmoid
from learning.kalman import KalmanLogistic
from learning.prior import prior
from learning.rehearsal import Held, Rehearsal

MIXING = 0.1
"""Prior variance of each expert's share: the average of all is a strong start."""

WEIGHT_MAX = 4.0
"""A lesson counts at most this often: plain gradients have no bound in their weight."""

_MARGIN_MAX = 8.0
_NEWTON_STEPS = 4


class Mixture(HashedClassifier):
    """The log odds of several experts, in shares that are learned as they are put to the test.

    Experts that err differently are better together than the best of them alone. Each
    conversation first tests the experts and moves the shares (a Newton step in as many dimensions
    as experts), then teaches them. (Mahoney 2005 for data compression; "gated" and "logistic"
    mixing.) Four kinds of logistic regression on the same rows:

    - by *dual ascent* with a normal prior: each lesson that is held owes the weights a = w (y - p),
      p being what they say now, and every time it is rehearsed it pays or takes back the difference
      (Shalev-Shwartz and Zhang 2013; Yu, Huang and Lin 2011). So what is held is learned as a refit
      would learn it. A lesson that leaves sharpens the prior of the weights it touched, as in the
      diagonal Bayesian regression (`bayes`): a refit of the newest on a posterior of the older.
    - by *damped AdaGrad*, rehearsing the same lessons.
    - by *plain AdaGrad*, each lesson once: bold with rare words, and slow to change its mind.
    - by *restless AdaGrad*, which forgets its paces: it follows a world that changes.

    All start from the packaged prior's weights of context (`prior`), which are small, and right
    about what any conversation shows: that it repeats itself, that it grows gloomy.

    Parameters
    ----------
    variances
        Prior variances of text weights, one expert by dual ascent each.
    v0_context
        Prior variance of their context weights and bias.
    damped
        First steps, one rehearsing AdaGrad expert each.
    rates
        Paces, one plain AdaGrad expert each.
    restless
        Paces, one restless AdaGrad expert each.
    fading
        Share of their paces that restless experts forget at each touch.
    held
        How many lessons are held, and rehearsed.
    visits
        How many of those are rehearsed after each new lesson.
    start
        Share of the packaged prior's weights that every expert begins with.
    buckets
        Size of each expert's arrays.
    """

    def __init__(
        self,
        variances: tuple[float, ...] = (0.1,),
        v0_context: float = 0.1,
        damped: tuple[float, ...] = (0.2,),
        rates: tuple[float, ...] = (0.02,),
        restless: tuple[float, ...] = (0.05,),
        fading: float = 0.1,
        held: int = 300,
        visits: int = 3,
        start: float = 0.3,
        buckets: int = BUCKETS,
    ) -> None:
        self.variances = variances
        self.v0_context = v0_context
        self.damped = damped
        self.rates = rates
        self.restless = restless
        self.fading = fading
        self.held = held
        self.visits = visits
        self.start = start
        self.buckets = buckets
        self._duals = len(variances)
        self._rehearse = self._duals + len(damped)
        self._experts = n = self._rehearse + len(rates) + len(restless)
        once = len(rates) + len(restless)
        self._pace: Floats = np.array((*damped, *rates, *restless))
        self._damping: Floats = np.array((1.0,) * len(damped) + (1e-12,) * once)
        self._keeps: Floats = np.array(
            (1.0,) * (len(damped) + len(rates)) + (1.0 - fading,) * len(restless)
        )
        self._m = Columns(buckets, self._beginning(), np.zeros(n))
        self._v = Columns(buckets, np.full(self._duals, v0_context), np.array(variances))
        self._g = Columns(buckets, np.zeros(n - self._duals), np.zeros(n - self._duals))
        self._shares = KalmanLogistic([1.0 / n] * n, [MIXING] * n)
        self._rehearsal = Rehearsal(held, self._duals, buckets)

    def _beginning(self) -> Floats:
        """Every expert's weights of context before the first lesson."""
        weights = np.zeros((RESERVED, self._experts))
        for place, weight in prior().items():
            weights[place] = self.start * weight
        return weights

    def margin_row(self, row: Row) -> tuple[float, float]:
        """The mixed log odds, and the variance that the labels so far have left them.

        The latter holds a weight's squared gradients to be the information about it.
        """
        gradients = self._g.array[row.index, len(self.damped)]
        variance = float((row.square / (1.0 / self.variances[0] + gradients)).sum())
        return self._shares.margin(self._said(row)), variance

    def _said(self, row: Row) -> list[float]:
        """What each expert says, within limits."""
        margins = (self._m.array.take(row.index, axis=0) * row.value[:, None]).sum(axis=0)
        return [min(max(margin, -_MARGIN_MAX), _MARGIN_MAX) for margin in margins.tolist()]

    def learn_row(self, row: Row, y: float, w: float) -> None:
        self.learn_rows([row], [y], [w])

    def learn_rows(
        self, rows: Sequence[Row], labels: Sequence[float], weights: Sequence[float]
    ) -> None:
        said = [self._said(row) for row in rows]
        bounded = [min(weight, WEIGHT_MAX) for weight in weights]
        for margins, y, w in zip(said, labels, bounded, strict=True):
            self._shares.learn(margins, y, w)
        for row, y, w in zip(rows, labels, bounded, strict=True):
            new = Held(row, y, w, [0.0] * self._duals)
            if (gone := self._rehearsal.add(new)) is not None:
                self._settle(gone)
            self._study(new, self._experts)
            for _ in range(self.visits):
                self._study(self._rehearsal.draw(), self._rehearse)

    def _study(self, held: Held, experts: int) -> None:
        """One step of the first so many experts, those by dual ascent before the others."""
        index, x = held.row.index, held.row.value[:, None]
        m = self._m.array.take(index, axis=0)
        margins = (m * x).sum(axis=0).tolist()
        vx = self._v.array.take(index, axis=0) * x
        owed = (vx * x).sum(axis=0).tolist()
        steps = [_dual_step(held, k, margins[k], owed[k]) for k in range(self._duals)]
        held.duals = [a + step for a, step in zip(held.duals, steps, strict=True)]
        m[:, : self._duals] += vx * np.array(steps)
        width = experts - self._duals
        errors = [held.label - sigmoid(margin) for margin in margins[self._duals : experts]]
        gradient = x * (held.weight * np.array(errors))
        g = self._g.array.take(index, axis=0)
        g[:, :width] = g[:, :width] * self._keeps[:width] + gradient * gradient
        paces = self._pace[:width] / (self._damping[:width] + np.sqrt(g[:, :width]))
        m[:, self._duals : experts] += gradient * paces
        self._m.array[index] = m
        self._g.array[index] = g

    def _settle(self, gone: Held) -> None:
        """What a lesson that leaves has taught is certain now: a Newton step of the variances."""
        index, x = gone.row.index, gone.row.value[:, None]
        margins = (self._m.array.take(index, axis=0) * x).sum(axis=0).tolist()
        v = self._v.array.take(index, axis=0)
        vx = v * x
        owed = (vx * x).sum(axis=0).tolist()
        shrink = []
        for margin, s2 in zip(margins, owed, strict=False):
            p = sigmoid(margin)
            h = gone.weight * p * (1.0 - p)
            shrink.append(h / (1.0 + h * s2))
        self._v.array[index] = v - vx * vx * np.array(shrink)

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        order, arrays = self._rehearsal.dump()
        arrays = {f"held.{name}": array for name, array in arrays.items()}
        for name, columns in self._columns():
            arrays[f"{name}_at"], arrays[name] = columns.pack()
        return {**self._shape(), "shares": self._shares.dump(), "held_order": order}, arrays

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        shape = {name: meta[name] for name in meta if name not in ("shares", "held_order")}
        if shape != self._shape():
            raise ValueError(f"a state of {shape} does not fit {self._shape()}")
        other = Mixture(**{**self._shape(), **self._lists()})
        own = {n.removeprefix("held."): a for n, a in arrays.items() if n.startswith("held.")}
        other._rehearsal.load(meta["held_order"], own)
        other._shares.load(meta["shares"])
        for name, columns in other._columns():
            columns.unpack(arrays[f"{name}_at"], arrays[name])
        if (other._v.array <= 0.0).any() or (other._g.array < 0.0).any():
            raise ValueError("a variance is not above zero, or a sum of squares below it")
        self.__dict__.update(other.__dict__)

    def _columns(self) -> tuple[tuple[str, Columns], ...]:
        return ("m", self._m), ("v", self._v), ("g", self._g)

    def _lists(self) -> dict[str, tuple[float, ...]]:
        return {
            "variances": self.variances,
            "damped": self.damped,
            "rates": self.rates,
            "restless": self.restless,
        }

    def _shape(self) -> dict[str, Any]:
        numbers = ("v0_context", "fading", "held", "visits", "start", "buckets")
        lists = {name: list(values) for name, values in self._lists().items()}
        return lists | {name: getattr(self, name) for name in numbers}


def _dual_step(held: Held, expert: int, margin: float, owed: float) -> float:
    """How far to move a lesson's dual a so that a = w (y - sigma(margin + owed * step)).

    Newton on an increasing function whose slope lies between 1 and 1 + w owed / 4.
    """
    a, w, y, step = held.duals[expert], held.weight, held.label, 0.0
    for _ in range(_NEWTON_STEPS):
        p = sigmoid(margin + owed * step)
        step -= (a + step - w * (y - p)) / (1.0 + w * owed * p * (1.0 - p))
    return step
