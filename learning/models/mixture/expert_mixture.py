"""Online stacking: logistic mixing of linear experts, trained with an experience-replay buffer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.models.hashed_features import (
    ALL,
    BUCKETS,
    RESERVED,
    Floats,
    HashedClassifier,
    Ints,
    Row,
    sigmoid,
)
from learning.models.kalman import KalmanLogistic
from learning.models.mixture.donor import SHARE as DONOR_SHARE
from learning.models.mixture.donor import Donor, DonorMissing
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
    """One step of AdaGrad for several experts at once, each with a step size of its own."""

    def __init__(self, rates: Sequence[float], damping: float, retained: Sequence[float]) -> None:
        self._rates: Floats = np.array(rates)[:, None]
        self._damping = damping
        self._retention = np.array(retained)[:, None] if min(retained, default=1.0) < 1.0 else None

    def step(
        self, weights: Floats, squares: Floats, margins: list[float], lesson: StoredLesson
    ) -> None:
        """Change the lines of `weights` and of their `squares` of gradients, in place."""
        errors = [[lesson.weight * (lesson.label - sigmoid(margin))] for margin in margins]
        gradient = np.array(errors) * lesson.row.value
        if self._retention is not None:
            squares *= self._retention
        squares += gradient * gradient
        step_size = np.sqrt(squares)
        step_size += self._damping
        np.divide(self._rates, step_size, out=step_size)
        step_size *= gradient
        weights += step_size


class Mixture(HashedClassifier):
    """Online stacking of linear experts: their log odds, mixed in learned weights.

    Experts that err differently are better together than the best of them alone. Each conversation
    first tests the experts and moves the mixing weights (a Newton step in as many dimensions as
    experts), then teaches them. (Mahoney 2005 for data compression; "gated" and "logistic" mixing.)
    Four kinds of logistic regression on the same rows:

    - by *dual ascent* with a normal prior: each lesson in the replay buffer owes the weights
      a = w (y - p), p being their present prediction, and every replay adds the difference
      (Shalev-Shwartz and Zhang 2013; Yu, Huang and Lin 2011). So the buffer is learned as a refit
      would learn it. A lesson that leaves sharpens the prior of the weights it touched, as in the
      diagonal `BayesianLogisticRegression`: a refit of the newest on a posterior of the older.
    - by *damped AdaGrad*, replaying the same lessons.
    - by *plain AdaGrad*, each lesson once: large steps for rare words, and slow to change.
    - by *restless AdaGrad*, which forgets its squared gradients: it follows a world that changes.

    All start from the packaged prior's weights of context (`packaged_prior`), which are small, and
    right about what any conversation shows: that it repeats itself, that it grows gloomy.

    Parameters
    ----------
    variances
        Prior variances of text weights, one expert by dual ascent each.
    v0_context
        Prior variance of their context weights and bias.
    damped
        First steps, one damped AdaGrad expert with replay each.
    rates
        Step sizes, one plain AdaGrad expert each.
    restless
        Step sizes, one restless AdaGrad expert each.
    fading
        Share of their squared gradients that restless experts forget at each touch.
    held
        Size of the replay buffer, in lessons.
    visits
        Lessons replayed after each new one.
    start
        Share of the packaged prior's weights that every expert begins with.
    buckets
        Size of each expert's arrays.
    donor
        Digest of another workspace's model, which is one more expert, frozen: `adopt` its weights.
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
        donor: str = "",
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
        self.donor = donor
        self._dual_count = duals = len(variances)
        self._replayed_count = duals + len(damped)
        self._single_pass_count = singles = len(rates) + len(restless)
        self._damped = _AdaGradStep(damped, 1.0, (1.0,) * len(damped))
        retained = (1.0,) * len(rates) + (1.0 - fading,) * len(restless)
        self._single_pass_step = _AdaGradStep((*rates, *restless), 1e-12, retained)
        weights = self._initial_weights()
        ones, zeros = np.ones(RESERVED), np.zeros(RESERVED)
        replayed_context = (
            [weights] * self._replayed_count + [ones * v0_context] * duals + [zeros] * len(damped)
        )
        self._replayed = ExpertWeights(
            buckets,
            np.stack(replayed_context, axis=1),
            np.array((0.0,) * self._replayed_count + variances + (0.0,) * len(damped)),
        )
        self._single_pass = ExpertWeights(
            buckets,
            np.stack([weights] * singles + [zeros] * singles, axis=1),
            np.zeros(2 * singles),
        )
        self._state_token = object()
        self._donor = Donor(donor, buckets) if donor else None
        self._shares = _initial_shares(self._replayed_count + singles, bool(donor))
        self._replay_buffer = ReplayBuffer(held, duals, buckets)

    def _initial_weights(self) -> Floats:
        """Each expert's weights of context before the first lesson."""
        weights = np.zeros(RESERVED)
        for place, weight in prior().items():
            weights[place] = self.start * weight
        return weights

    def adopt(self, weights: Floats) -> None:
        """Take the weights of the donor that the recipe names."""
        if self._donor is None:
            raise ValueError("this recipe names no donor")
        self._donor.adopt(weights)

    @property
    def donor_weights(self) -> Floats:
        """The weights of the donor. DonorMissing where they are not here, or there is none."""
        if self._donor is None:
            raise DonorMissing("this model has no donor")
        return self._donor.weights

    def linear_weights(self, index: Ints | slice = ALL, /) -> Floats:
        """All experts as one: their weights by bucket, summed by their shares."""
        shares = self._shares.theta
        replayed, singles = self._replayed_count, self._single_pass_count
        columns = [
            *self._replayed.array[index, :replayed].T,
            *self._single_pass.array[index, :singles].T,
            *([] if self._donor is None else [self._donor.weights[index]]),
        ]
        weights: Floats = np.zeros_like(columns[0])
        for share, column in zip(shares, columns, strict=True):
            weights += share * column
        return weights

    def margin_row(self, row: Row) -> tuple[float, float]:
        """The mixed log odds, and the variance that the labels so far have left them.

        The latter holds a weight's squared gradients to be the information about it.
        """
        single_pass = self._single_pass.take(row.index)
        information = 1.0 / self.variances[0] + single_pass[self._single_pass_count]
        margins = self._compute_margins(row, single_pass)
        row.cached_margins = self._state_token, margins
        return self._shares.margin(margins), float((row.square / information).sum())

    def _expert_margins(self, row: Row) -> list[float]:
        """Each expert's margin: a row is scored just before it is learned, and caches it."""
        cached, row.cached_margins = row.cached_margins, None
        if cached is not None and cached[0] is self._state_token:
            return cached[1]
        return self._compute_margins(row, self._single_pass.take(row.index))

    def _compute_margins(self, row: Row, single_pass: Floats) -> list[float]:
        """Each expert's margin, clipped; `single_pass` holds the row's weights of those experts."""
        replayed = self._replayed.take(row.index)[: self._replayed_count]
        margins = _row_sums(replayed * row.value) + _row_sums(
            single_pass[: self._single_pass_count] * row.value
        )
        if self._donor is not None:
            margins.append(self._donor.margin(row))
        return [min(max(margin, -_MARGIN_MAX), _MARGIN_MAX) for margin in margins]

    def learn_row(self, row: Row, y: float, w: float) -> None:
        self.learn_rows([row], [y], [w])

    def learn_rows(
        self, rows: Sequence[Row], labels: Sequence[float], weights: Sequence[float]
    ) -> None:
        margins_by_row = [self._expert_margins(row) for row in rows]
        self._state_token = object()
        bounded = [min(weight, WEIGHT_MAX) for weight in weights]
        for margins, y, w in zip(margins_by_row, labels, bounded, strict=True):
            self._shares.learn(margins, y, w)
        for row, y, w in zip(rows, labels, bounded, strict=True):
            new = StoredLesson(row, y, w, [0.0] * self._dual_count)
            if (evicted := self._replay_buffer.add(new)) is not None:
                self._absorb_evicted(evicted)
            self._learn_once(new)
            self._replay_step(new)
            for _ in range(self.visits):
                self._replay_step(self._replay_buffer.draw())

    def _learn_once(self, lesson: StoredLesson) -> None:
        """One AdaGrad step of the experts without replay."""
        index, x = lesson.row.index, lesson.row.value
        lines = self._single_pass.take(index)
        weights, squares = lines[: self._single_pass_count], lines[self._single_pass_count :]
        self._single_pass_step.step(weights, squares, _row_sums(weights * x), lesson)
        self._single_pass.put(index, lines)

    def _replay_step(self, lesson: StoredLesson) -> None:
        """One step of the experts with replay, those by dual ascent before the others."""
        index, x = lesson.row.index, lesson.row.value
        n_duals, n_replayed = self._dual_count, self._replayed_count
        lines = self._replayed.take(index)
        weighted = np.empty((n_replayed + 2 * n_duals, len(x)))
        vx = weighted[n_replayed : n_replayed + n_duals]
        np.multiply(lines[: n_replayed + n_duals], x, out=weighted[: n_replayed + n_duals])
        np.multiply(vx, x, out=weighted[n_replayed + n_duals :])
        margins = _row_sums(weighted)
        for k, owed in enumerate(margins[n_replayed + n_duals :]):
            step = _dual_step(lesson, k, margins[k], owed)
            lesson.duals[k] += step
            lines[k] += vx[k] * step
        margins = margins[:n_replayed]
        weights, squares = lines[n_duals:n_replayed], lines[n_replayed + n_duals :]
        self._damped.step(weights, squares, margins[n_duals:], lesson)
        self._replayed.put(index, lines)

    def _absorb_evicted(self, evicted: StoredLesson) -> None:
        """Condition the prior on a lesson that leaves the buffer: one Newton step."""
        index, x = evicted.row.index, evicted.row.value
        lines = self._replayed.take(index)
        variances = lines[self._replayed_count : self._replayed_count + self._dual_count]
        vx = variances * x
        shrink = []
        for margin, s2 in zip(
            _row_sums(lines[: self._dual_count] * x), _row_sums(vx * x), strict=True
        ):
            p = sigmoid(margin)
            h = evicted.weight * p * (1.0 - p)
            shrink.append(h / (1.0 + h * s2))
        variances -= vx * vx * np.array(shrink)[:, None]
        self._replayed.put(index, lines)

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        order, arrays = self._replay_buffer.dump()
        arrays = {f"held.{name}": array for name, array in arrays.items()}
        for name, columns in self._weight_arrays():
            arrays[f"{name}_at"], arrays[name] = columns.pack()
        if self._donor is not None:
            arrays |= self._donor.dump()
        return {**self._shape(), "shares": self._shares.dump(), "held_order": order}, arrays

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        shape = {name: meta[name] for name in meta if name not in ("shares", "held_order")}
        if shape != self._shape():
            raise ValueError(f"a state of {shape} does not fit {self._shape()}")
        other = Mixture(**{**self._shape(), **self._expert_lists()})
        buffered = {n.removeprefix("held."): a for n, a in arrays.items() if n.startswith("held.")}
        other._replay_buffer.load(meta["held_order"], buffered)
        other._shares.load(meta["shares"])
        if other._donor is not None:
            other._donor.load(arrays)
        for name, columns in other._weight_arrays():
            columns.unpack(arrays[f"{name}_at"], arrays[name])
        other._check()
        self.__dict__.update(other.__dict__)

    def _check(self) -> None:
        spread = self._replayed.array[:, self._replayed_count :]
        squares = self._single_pass.array[:, self._single_pass_count :]
        if (spread[:, : self._dual_count] <= 0.0).any() or min(spread.min(), squares.min()) < 0.0:
            raise ValueError("a variance is not above zero, or a sum of squares below it")

    def _weight_arrays(self) -> tuple[tuple[str, ExpertWeights], ...]:
        return ("often", self._replayed), ("once", self._single_pass)

    def _expert_lists(self) -> dict[str, tuple[float, ...]]:
        return {
            "variances": self.variances,
            "damped": self.damped,
            "rates": self.rates,
            "restless": self.restless,
        }

    def _shape(self) -> dict[str, Any]:
        numbers = ("v0_context", "fading", "held", "visits", "start", "buckets")
        lists = {name: list(values) for name, values in self._expert_lists().items()}
        donor = {"donor": self.donor} if self.donor else {}
        return lists | {name: getattr(self, name) for name in numbers} | donor


def _initial_shares(experts: int, with_donor: bool) -> KalmanLogistic:
    """All experts speak alike at first; where there is a donor, it speaks most."""
    shares = [1.0 / experts] * experts
    if with_donor:
        shares = [*((1.0 - DONOR_SHARE) * share for share in shares), DONOR_SHARE]
    return KalmanLogistic(shares, [MIXING] * len(shares))


def _row_sums(lines: Floats) -> list[float]:
    """The sum of each line."""
    return np.add.reduce(lines, axis=1).tolist()  # type: ignore[no-any-return]


def _dual_step(lesson: StoredLesson, expert: int, margin: float, owed: float) -> float:
    """How far to move a lesson's dual a so that a = w (y - sigma(margin + owed * step)).

    Newton on an increasing function whose slope lies between 1 and 1 + w owed / 4.
    """
    a, w, y, step = lesson.duals[expert], lesson.weight, lesson.label, 0.0
    for _ in range(_NEWTON_STEPS):
        p = sigmoid(margin + owed * step)
        step -= (a + step - w * (y - p)) / (1.0 + w * owed * p * (1.0 - p))
    return step
