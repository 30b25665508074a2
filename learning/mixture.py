"""Several experts and one voice: an exponentially weighted mixture under log loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from learning.adagrad import AdaGradLogisticRegression
from learning.bayes import BayesianLogisticRegression
from learning.hashing import BUCKETS, HashedClassifier, Row

SHARE = 1e-4
"""So much of every expert's weight is dealt out anew at each lesson, so that none is ever lost."""

_P_MIN = 1e-6


class Mixture(HashedClassifier):
    """Bayesian and AdaGrad logistic regressions, each trusted as its past forecasts deserve.

    No single learner wins with both clean and noisy labels. The mixture's log loss exceeds that of
    its best expert by at most ln(number of experts) (Vovk 1990), with a fixed share against drift
    (Herbster and Warmuth 1998).

    Parameters
    ----------
    variances
        Prior variances of text weights, one Bayesian expert each.
    v0_context
        Prior variance of context weights, of every Bayesian expert.
    rates
        First steps, one AdaGrad expert each.
    buckets
        Size of each expert's arrays.
    """

    def __init__(
        self,
        variances: tuple[float, ...] = (0.05, 0.3, 1.0),
        v0_context: float = 0.3,
        rates: tuple[float, ...] = (0.1,),
        buckets: int = BUCKETS,
    ) -> None:
        self.variances = variances
        self.v0_context = v0_context
        self.rates = rates
        self.buckets = buckets
        self._experts: tuple[HashedClassifier, ...] = (
            *(BayesianLogisticRegression(v0, v0_context, 0.0, buckets) for v0 in variances),
            *(AdaGradLogisticRegression(rate, buckets) for rate in rates),
        )
        self._trust = [1.0 / len(self._experts)] * len(self._experts)

    def predict_row(self, row: Row) -> tuple[float, float]:
        """The trusted mean of the probabilities and, as uncertainty, of the variances."""
        p = s2 = 0.0
        for trust, expert in zip(self._trust, self._experts, strict=True):
            of_expert, variance = expert.predict_row(row)
            p += trust * of_expert
            s2 += trust * variance
        return p, s2

    def learn_row(self, row: Row, y: float, w: float) -> None:
        said = [expert.predict_row(row)[0] for expert in self._experts]
        losses = [_log_loss(p, y) * min(w, 1.0) for p in said]
        least = min(losses)
        trust = [t * math.exp(least - loss) for t, loss in zip(self._trust, losses, strict=True)]
        total, n = sum(trust), len(trust)
        self._trust = [(1.0 - SHARE) * t / total + SHARE / n for t in trust]
        for expert in self._experts:
            expert.learn_row(row, y, w)

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        meta: dict[str, Any] = {"trust": list(self._trust)}
        arrays: dict[str, NDArray[Any]] = {}
        for n, expert in enumerate(self._experts):
            meta[f"expert_{n}"], found = expert.dump()
            arrays |= {f"{n}.{name}": array for name, array in found.items()}
        return meta, arrays

    def load(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        trust = [float(t) for t in meta["trust"]]
        if len(trust) != len(self._experts) or not all(0.0 < t <= 1.0 for t in trust):
            raise ValueError(f"{trust} does not trust {len(self._experts)} experts")
        for n, expert in enumerate(self._experts):
            own = {
                name.removeprefix(f"{n}."): array
                for name, array in arrays.items()
                if name.startswith(f"{n}.")
            }
            expert.load(meta[f"expert_{n}"], own)
        self._trust = trust


def _log_loss(p: float, y: float) -> float:
    p = min(max(p, _P_MIN), 1.0 - _P_MIN)
    return -(y * math.log(p) + (1.0 - y) * math.log(1.0 - p))
