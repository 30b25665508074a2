"""Model registry of the build: named, versioned model configurations (recipes).

A changed recipe, feature or lexicon is a new version. A recipe may be given parameters, which are
part of its name then: `bayes-4?v0=0.3,forgetting=0.01` is a model of its own, that a version
stores and every process rebuilds. Packages may add recipes of their own
(`learning.models.plugins`). Every estimator here passes one contract suite
(tests/learning/models/test_recipes.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from learning.models.adagrad import AdaGradLogisticRegression
from learning.models.bayesian_logistic import BayesianLogisticRegression
from learning.models.hashed_features import BUCKETS, RESERVED, HashedClassifier
from learning.models.hyperparameters import (
    Parameter,
    ParameterError,
    Settable,
    format_value,
    parse_parameters,
)
from learning.models.mixture.donor import DonorDigest
from learning.models.mixture.expert_mixture import Mixture
from learning.models.plugins.entry_points import (
    RECIPE_NAME,
    RECIPES_GROUP,
    FeatureNames,
    PluginError,
    installed,
)
from learning.models.plugins.own_classifier import OwnClassifier, missing_methods


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model configuration under a name that ends in its version, or in parameters after it.

    `parameters` are those that may be set; `settings` those that were, none at its default.
    """

    name: str
    sentence: str
    make: Callable[..., HashedClassifier]
    parameters: Mapping[str, Settable] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def donor(self) -> str:
        """The digest of the donor that it starts from; empty for none."""
        return str(self.settings.get("donor", ""))

    @property
    def features(self) -> tuple[str, ...]:
        """The features of one's own that are appended."""
        return tuple(self.settings.get("features", ()))

    def build(self) -> HashedClassifier:
        """A fresh estimator that has learned nothing."""
        settings = {name: value for name, value in self.settings.items() if name != "features"}
        return self.make(**settings)


_FEATURES: Mapping[str, Settable] = {"features": FeatureNames()}


def _by_name(*recipes: Recipe) -> Mapping[str, Recipe]:
    with_features = [
        replace(recipe, parameters={**recipe.parameters, **_FEATURES}) for recipe in recipes
    ]
    return MappingProxyType({recipe.name: recipe for recipe in with_features})


_BUCKETS = Parameter(BUCKETS, 2 * RESERVED, 2**20)
_VARIANCES = {"v0": Parameter(0.1, 1e-6, 100.0), "v0_context": Parameter(1.0, 1e-6, 100.0)}

RECIPES: Mapping[str, Recipe] = _by_name(
    Recipe(
        "mixture-5",
        "four logistic regressions that rehearse, their log odds mixed in learned shares",
        Mixture,
        {
            "variances": Parameter((0.1,), 1e-6, 100.0),
            "v0_context": Parameter(0.1, 1e-6, 100.0),
            "damped": Parameter((0.2,), 1e-6, 10.0),
            "rates": Parameter((0.02,), 1e-6, 10.0),
            "restless": Parameter((0.05,), 1e-6, 10.0),
            "fading": Parameter(0.1, 0.0, 0.5),
            "held": Parameter(300, 1, 10_000),
            "visits": Parameter(3, 0, 100),
            "start": Parameter(0.3, 0.0, 1.0),
            "buckets": _BUCKETS,
            "donor": DonorDigest(),
        },
    ),
    Recipe(
        "bayes-4",
        "one Bayesian logistic regression with a diagonal posterior: honest about what is new",
        BayesianLogisticRegression,
        _VARIANCES | {"forgetting": Parameter(0.0, 0.0, 0.5), "buckets": _BUCKETS},
    ),
    Recipe(
        "adagrad-4",
        "one logistic regression by damped AdaGrad: the simplest, and close to the best",
        AdaGradLogisticRegression,
        {
            "rate": Parameter(0.1, 1e-6, 10.0),
            "damping": Parameter(1.0, 0.0, 1000.0),
            "buckets": _BUCKETS,
        },
    ),
    Recipe(
        "forgetting-4",
        "the Bayesian one, forgetting 2 % at each touch: soonest at home in a changed world",
        partial(BayesianLogisticRegression, forgetting=0.02),
        _VARIANCES | {"forgetting": Parameter(0.02, 0.0, 0.5), "buckets": _BUCKETS},
    ),
)

FORGETTING = "forgetting-4"
"""What is tried when the world has changed."""

DEFAULT = "mixture-5"
"""Chosen by measurement over four real data sets and the simulator: docs/results/learning.md."""

EMPTY = f"{DEFAULT}?start=0.0"
"""The same without the packaged prior, to measure what that is worth."""


class UnknownRecipe(LookupError):
    """No recipe of this build has that name; the message names those there are."""


def all_recipes() -> Mapping[str, str]:
    """Every recipe of this installation, packaged or of one's own, and a sentence of each."""
    own = {
        name: f"of package {point.package} {point.version}"
        for name, point in installed(RECIPES_GROUP).items()
    }
    return own | {name: recipe.sentence for name, recipe in RECIPES.items()}


def _own_recipe(name: str) -> Recipe | None:
    """The recipe of an installed package. Raises UnknownRecipe for one that cannot be made."""
    point = installed(RECIPES_GROUP).get(name)
    if point is None:
        return None
    if not RECIPE_NAME.fullmatch(name):
        raise UnknownRecipe(f"recipe {name!r} must be named like my-model-1, with its version")
    try:
        missing = missing_methods(point.make())
    except PluginError as error:
        raise UnknownRecipe(str(error)) from error
    if missing:
        raise UnknownRecipe(f"recipe {name!r} makes what has no {', '.join(missing)}")
    sentence = f"of package {point.package} {point.version}"
    return Recipe(name, sentence, partial(OwnClassifier, point.load()), _FEATURES)


def get_recipe(name: str) -> Recipe:
    """The recipe of a name, parameters and all; its own name is the canonical one.

    `bayes-4?v0=.30,forgetting=0` is found as `bayes-4?v0=0.3`. Raises UnknownRecipe.
    """
    base, _, text = name.partition("?")
    recipe = RECIPES.get(base) or _own_recipe(base)
    if recipe is None:
        known = ", ".join((*RECIPES, *installed(RECIPES_GROUP)))
        raise UnknownRecipe(f"there is no recipe {base!r}; there are {known}")
    try:
        settings = parse_parameters(recipe.parameters, text)
    except ParameterError as error:
        raise UnknownRecipe(f"recipe {base}: {error}") from None
    if not settings:
        return recipe
    canonical = ",".join(
        f"{parameter}={format_value(value)}" for parameter, value in settings.items()
    )
    return replace(recipe, name=f"{base}?{canonical}", settings=settings)
