"""Several experts and one voice: logistic mixing of experts that rehearse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.models.hashed_features import (
    BUCKETS,
    RESERVED,
    Floats,
    HashedClassifier,
    Row,
    sigmoid,
)
from learning.models.kalman import KalmanLogistic
from learning.models.mixture.expert_weights import ExpertWeights
from learning.models.mixture.packaged_prior import prior
from learning.models.mixture.replay_buffer import ReplayBuffer, StoredLesson

MIXING = 0.1
"""Prior variance of each expert's share: the average of all is a strong start."""

WEIGHT_MAX = 4.0
"""A lesson counts at most this often: plain gradients have no bound in their weight."""

_MARGIN_MAX = 8.0
_NEWTON_STEPS = 4


class _AdaGradStep:
    """One step of AdaGrad for several experts at once, each with a pace of its own."""

    def __init__(self, rates: Sequence[float], damping: float, keeps: Sequence[float]) -> None:
        self._rates: Floats = np.array(rates)[:, None]
        self._damping = damping
        self._keeps = np.array(keeps)[:, None] if min(keeps, default=1.0) < 1.0 else None

    def step(
        self, weights: Floats, squares: Floats, margins: list[float], held: StoredLesson
    ) -> None:
        """Change the lines of `weights` and of their `squares` of gradients, in place."""
        errors = [[held.weight * (held.label - sigmoid(margin))] for margin in margins]
        gradient = np.array(errors) * held.row.value
        if self._keeps is not None:
            squares *= self._keeps
        squares += gradient * gradient
        pace = np.sqrt(squares)
        pace += self._damping
        np.divide(self._rates, pace, out=pace)
        pace *= gradient
        weights += pace


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
        self._duals = duals = len(variances)
        self._rehearse = duals + len(damped)
        self._singles = singles = len(rates) + len(restless)
        n = self._rehearse + singles
        self._damped = _AdaGradStep(damped, 1.0, (1.0,) * len(damped))
        keeps = (1.0,) * len(rates) + (1.0 - fading,) * len(restless)
        self._bold = _AdaGradStep((*rates, *restless), 1e-12, keeps)
        weights = self._beginning()
        ones, none = np.ones(RESERVED), np.zeros(RESERVED)
        held_at_first = (
            [weights] * self._rehearse + [ones * v0_context] * duals + [none] * len(damped)
        )
        self._often = ExpertWeights(
            buckets,
            np.stack(held_at_first, axis=1),
            np.array((0.0,) * self._rehearse + variances + (0.0,) * len(damped)),
        )
        self._once = ExpertWeights(
            buckets, np.stack([weights] * singles + [none] * singles, axis=1), np.zeros(2 * singles)
        )
        self._state = object()
        self._shares = KalmanLogistic([1.0 / n] * n, [MIXING] * n)
        self._rehearsal = ReplayBuffer(held, duals, buckets)

    def _beginning(self) -> Floats:
        """Each expert's weights of context before the first lesson."""
        weights = np.zeros(RESERVED)
        for place, weight in prior().items():
            weights[place] = self.start * weight
        return weights

    def margin_row(self, row: Row) -> tuple[float, float]:
        """The mixed log odds, and the variance that the labels so far have left them.

        The latter holds a weight's squared gradients to be the information about it.
        """
        once = self._once.take(row.index)
        information = 1.0 / self.variances[0] + once[self._singles]
        said = self._margins(row, once)
        row.said = self._state, said
        return self._shares.margin(said), float((row.square / information).sum())

    def _said(self, row: Row) -> list[float]:
        """What each expert says: a row is asked about just before it is learned, and remembers."""
        noted, row.said = row.said, None
        if noted is not None and noted[0] is self._state:
            return noted[1]
        return self._margins(row, self._once.take(row.index))

    def _margins(self, row: Row, once: Floats) -> list[float]:
        """What each expert says, within limits; `once` holds the row's lines of those."""
        often = self._often.take(row.index)[: self._rehearse]
        margins = _sums(often * row.value) + _sums(once[: self._singles] * row.value)
        return [min(max(margin, -_MARGIN_MAX), _MARGIN_MAX) for margin in margins]

    def learn_row(self, row: Row, y: float, w: float) -> None:
        self.learn_rows([row], [y], [w])

    def learn_rows(
        self, rows: Sequence[Row], labels: Sequence[float], weights: Sequence[float]
    ) -> None:
        said = [self._said(row) for row in rows]
        self._state = object()
        bounded = [min(weight, WEIGHT_MAX) for weight in weights]
        for margins, y, w in zip(said, labels, bounded, strict=True):
            self._shares.learn(margins, y, w)
        for row, y, w in zip(rows, labels, bounded, strict=True):
            new = StoredLesson(row, y, w, [0.0] * self._duals)
            if (gone := self._rehearsal.add(new)) is not None:
                self._settle(gone)
            self._study_once(new)
            self._study(new)
            for _ in range(self.visits):
                self._study(self._rehearsal.draw())

    def _study_once(self, held: StoredLesson) -> None:
        """One step of the experts that see each lesson once."""
        index, x = held.row.index, held.row.value
        lines = self._once.take(index)
        weights, squares = lines[: self._singles], lines[self._singles :]
        self._bold.step(weights, squares, _sums(weights * x), held)
        self._once.put(index, lines)

    def _study(self, held: StoredLesson) -> None:
        """One step of the experts that rehearse, those by dual ascent before the others."""
        index, x, duals, rehearse = held.row.index, held.row.value, self._duals, self._rehearse
        lines = self._often.take(index)
        weighed = np.empty((rehearse + 2 * duals, len(x)))
        vx = weighed[rehearse : rehearse + duals]
        np.multiply(lines[: rehearse + duals], x, out=weighed[: rehearse + duals])
        np.multiply(vx, x, out=weighed[rehearse + duals :])
        margins = _sums(weighed)
        for k, owed in enumerate(margins[rehearse + duals :]):
            step = _dual_step(held, k, margins[k], owed)
            held.duals[k] += step
            lines[k] += vx[k] * step
        margins = margins[:rehearse]
        weights, squares = lines[duals:rehearse], lines[rehearse + duals :]
        self._damped.step(weights, squares, margins[duals:], held)
        self._often.put(index, lines)

    def _settle(self, gone: StoredLesson) -> None:
        """What a lesson that leaves has taught is certain now: a Newton step of the variances."""
        index, x = gone.row.index, gone.row.value
        lines = self._often.take(index)
        variances = lines[self._rehearse : self._rehearse + self._duals]
        vx = variances * x
        shrink = []
        for margin, s2 in zip(_sums(lines[: self._duals] * x), _sums(vx * x), strict=True):
            p = sigmoid(margin)
            h = gone.weight * p * (1.0 - p)
            shrink.append(h / (1.0 + h * s2))
        variances -= vx * vx * np.array(shrink)[:, None]
        self._often.put(index, lines)

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
        other._check()
        self.__dict__.update(other.__dict__)

    def _check(self) -> None:
        spread = self._often.array[:, self._rehearse :]
        squares = self._once.array[:, self._singles :]
        if (spread[:, : self._duals] <= 0.0).any() or min(spread.min(), squares.min()) < 0.0:
            raise ValueError("a variance is not above zero, or a sum of squares below it")

    def _columns(self) -> tuple[tuple[str, ExpertWeights], ...]:
        return ("often", self._often), ("once", self._once)

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


def _sums(lines: Floats) -> list[float]:
    """The sum of each line."""
    return np.add.reduce(lines, axis=1).tolist()  # type: ignore[no-any-return]


def _dual_step(held: StoredLesson, expert: int, margin: float, owed: float) -> float:
    """How far to move a lesson's dual a so that a = w (y - sigma(margin + owed * step)).

    Newton on an increasing function whose slope lies between 1 and 1 + w owed / 4.
    """
    a, w, y, step = held.duals[expert], held.weight, held.label, 0.0
    for _ in range(_NEWTON_STEPS):
        p = sigmoid(margin + owed * step)
        step -= (a + step - w * (y - p)) / (1.0 + w * owed * p * (1.0 - p))
    return step
