"""Informative prior: packaged context weights, learned from simulated conversations.

A customer who repeats themself, a bot that says the same thing twice, a mood that sinks: these mean
much the same everywhere. `prior.toml` holds the weights that a Bayesian regression gave the context
features of customers' messages in conversations that the project's own simulator wrote. There are
no words in it, nobody's data, and nothing of the bot's messages. `python -m
experiments.studies.003_packaged_prior` makes it again, to the last digit.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from learning.models.hashed_features import BUCKETS, bucket

BIAS = "bias"


@cache
def prior() -> Mapping[int, float]:
    """The packaged prior weights, by the bucket of their feature."""
    text = (resources.files("learning.models.mixture") / "prior.toml").read_text(encoding="utf-8")
    weights: dict[str, float] = tomllib.loads(text)["context"]
    return MappingProxyType(
        {0 if name == BIAS else bucket(name, BUCKETS): float(w) for name, w in weights.items()}
    )
