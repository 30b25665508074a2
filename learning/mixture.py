"""Several experts and one voice: logistic mixing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from learning.adagrad import AdaGradLogisticRegression
from learning.bayes import BayesianLogisticRegression
from learning.hashing import BUCKETS, HashedClassifier, Row
from learning.kalman import KalmanLogistic

MIXING = 0.01
"""Prior variance of each expert's share: the average of all is a strong start."""

_MARGIN_MAX = 8.0


class Mixture(HashedClassifier):
    """The log odds of several experts, in shares that are learned as they are put to the test.

    Experts that err differently are better together than the best of them alone: on four real
    data sets the mixed log odds beat every expert, and the exponentially weighted mixture of
    their probabilities too, which ends by following a single one. Each lesson first tests the
    experts and moves the shares (a Newton step in as many dimensions as experts), then teaches
    the experts. (Mahoney 2005 for data compression; "gated" and "logistic" mixing.)

    Parameters
    ----------
    variances
        Prior variances of text weights, one Bayesian expert each.
    v0_context
        Prior variance of context weights, of every Bayesian expert.
    rates
        First steps, one plain AdaGrad expert each: bold with rare words.
    damped
        First steps, one damped AdaGrad expert each: careful with them.
    buckets
        Size of each expert's arrays.
    """

    def __init__(
        self,
        variances: tuple[float, ...] = (0.1,),
        v0_context: float = 1.0,
        rates: tuple[float, ...] = (0.03,),
        damped: tuple[float, ...] = (0.1,),
        buckets: int = BUCKETS,
    ) -> None:
        self.variances = variances
        self.v0_context = v0_context
        self.rates = rates
        self.damped = damped
        self.buckets = buckets
        self._experts: tuple[HashedClassifier, ...] = (
            *(BayesianLogisticRegression(v0, v0_context, 0.0, buckets) for v0 in variances),
            *(AdaGradLogisticRegression(rate, 0.0, buckets) for rate in rates),
            *(AdaGradLogisticRegression(rate, 1.0, buckets) for rate in damped),
        )
        n = len(self._experts)
        self._shares = KalmanLogistic([1.0 / n] * n, [MIXING] * n)

    def margin_row(self, row: Row) -> tuple[float, float]:
        """The mixed log odds and, as their variance, the mean of the experts'."""
        said = [expert.margin_row(row) for expert in self._experts]
        margin = self._shares.margin([_clipped(margin) for margin, _ in said])
        return margin, sum([variance for _, variance in said]) / len(said)

    def learn_row(
        self,
        row: Row,
        y: float,
        w: float,
        said: tuple[float, float] | None = None,  # noqa: ARG002 - each expert says its own
    ) -> None:
        each = [expert.margin_row(row) for expert in self._experts]
        self._shares.learn([_clipped(margin) for margin, _ in each], y, w)
        for expert, its in zip(self._experts, each, strict=True):
            expert.learn_row(row, y, w, its)

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        meta: dict[str, Any] = {"shares": self._shares.dump()}
        arrays: dict[str, NDArray[Any]] = {}
        for n, expert in enumerate(self._experts):
            meta[f"expert_{n}"], found = expert.dump()
            arrays |= {f"{n}.{name}": array for name, array in found.items()}
        return meta, arrays

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        for n, expert in enumerate(self._experts):
            own = {
                name.removeprefix(f"{n}."): array
                for name, array in arrays.items()
                if name.startswith(f"{n}.")
            }
            expert.load(meta[f"expert_{n}"], own)
        self._shares.load(meta["shares"])


def _clipped(margin: float) -> float:
    return min(max(margin, -_MARGIN_MAX), _MARGIN_MAX)
