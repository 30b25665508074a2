"""Named, versioned model configurations. A changed recipe, feature or lexicon is a new version.

Every estimator here passes one contract suite (tests/test_recipes.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from learning.adagrad import AdaGradLogisticRegression
from learning.bayes import BayesianLogisticRegression
from learning.hashing import HashedClassifier
from learning.mixture import Mixture


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model configuration under a name that ends in its version."""

    name: str
    sentence: str
    make: Callable[[], HashedClassifier]

    def build(self) -> HashedClassifier:
        """A fresh estimator that has learned nothing."""
        return self.make()


def _named(*recipes: Recipe) -> Mapping[str, Recipe]:
    return MappingProxyType({recipe.name: recipe for recipe in recipes})


RECIPES: Mapping[str, Recipe] = _named(
    Recipe(
        "mixture-1",
        "a Bayesian logistic regression and two by AdaGrad, their log odds mixed in learned shares",
        Mixture,
    ),
    Recipe(
        "bayes-1",
        "one Bayesian logistic regression with a diagonal posterior: honest about what is new",
        BayesianLogisticRegression,
    ),
    Recipe(
        "adagrad-1",
        "one logistic regression by damped AdaGrad: the simplest, and close to the best",
        AdaGradLogisticRegression,
    ),
    Recipe(
        "forgetting-1",
        "the Bayesian one, forgetting 2 % at each touch: soonest at home in a changed world",
        lambda: BayesianLogisticRegression(forgetting=0.02),
    ),
)

FORGETTING = "forgetting-1"
"""What is tried when the world has changed."""

DEFAULT = "mixture-1"
"""Chosen by measurement over four real data sets; see experiments/RESULTS.md."""
