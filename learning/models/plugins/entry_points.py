"""Plugins by entry point: recipes (`baton.recipes`) and features (`baton.features`) of one's own.

A recipe's entry point is a class or function that makes an online classifier with River's methods
`learn_one(x, y, w)` and `predict_proba_one(x)`, and `dump()` and `load(meta, arrays)`, which give
and take its state as JSON and plain arrays. A feature's is a pure function of a conversation state
that gives numbers by name. Only what a workspace's recipe names is ever loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from learning.conversation.features import Parts
from learning.conversation.state import State

RECIPES_GROUP, FEATURES_GROUP = "baton.recipes", "baton.features"
RECIPE_NAME = re.compile(r"[a-z][a-z0-9-]*-[0-9]+")
FEATURE_NAME = re.compile(r"[a-z][a-z0-9-]*")

FEATURES_MAX, FEATURE_CHARS_MAX, VALUE_MAX = 64, 64, 100.0
"""Most features that one plugin may give for a message, their names' length, and their size."""

Features = Callable[[State], Mapping[str, float]]


class PluginError(LookupError):
    """A plugin is not installed, or cannot be loaded; the message says why."""


@dataclass(frozen=True, slots=True)
class Installed:
    """An entry point and the package that it comes with."""

    entry_point: EntryPoint
    package: str
    version: str

    def load(self) -> Any:
        """What it names. Raises PluginError."""
        try:
            return self.entry_point.load()
        except Exception as error:  # whatever somebody's module does when it is imported
            raise PluginError(
                f"{self.entry_point.group} {self.entry_point.name!r} of package {self.package} "
                f"cannot be loaded: {type(error).__name__}: {error}"
            ) from error

    def make(self) -> Any:
        """What its factory makes. Raises PluginError."""
        factory = self.load()
        try:
            return factory()
        except Exception as error:  # as above
            raise PluginError(
                f"{self.entry_point.name!r} of package {self.package} cannot be made: "
                f"{type(error).__name__}: {error}"
            ) from error


@cache
def installed(group: str) -> Mapping[str, Installed]:
    """The installed entry points of a group, by name."""
    found = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        package = point.dist
        name, version = ("?", "?") if package is None else (package.name, package.version)
        found[point.name] = Installed(point, name, version)
    return found


def packages(group: str, names: tuple[str, ...] = ()) -> dict[str, str]:
    """The versions of the packages that these plugins (or all of a group) come with."""
    points = installed(group)
    return {points[n].package: points[n].version for n in (names or points) if n in points}


class FeatureNames:
    """The parameter of a recipe that appends features of one's own: names, with colons between."""

    default: tuple[str, ...] = ()

    def parse(self, text: str) -> tuple[str, ...]:
        names = tuple(sorted(set(text.split(":"))))
        for name in names:
            if not FEATURE_NAME.fullmatch(name) or name not in installed(FEATURES_GROUP):
                known = ", ".join(installed(FEATURES_GROUP)) or "none"
                raise ValueError(f"no installed feature is named {name!r}; there are: {known}")
        return names


@cache
def feature_function(name: str) -> Features:
    """The function of an installed feature. Raises PluginError."""
    point = installed(FEATURES_GROUP).get(name)
    if point is None:
        raise PluginError(f"no installed package has a {FEATURES_GROUP} named {name!r}")
    function: Features = point.load()
    return function


def appended(names: tuple[str, ...], state: State) -> Parts:
    """What features of one's own say of a state, by namespace: bounded and finite."""
    groups: Parts = {}
    for plugin in names:
        values: dict[str, float] = {}
        for name, value in sorted(feature_function(plugin)(state).items())[:FEATURES_MAX]:
            number = float(value)
            if math.isfinite(number):
                plain = str(name)[:FEATURE_CHARS_MAX].replace("=", "_")
                values[plain] = min(max(number, -VALUE_MAX), VALUE_MAX)
        groups[f"own:{plugin}:"] = values
    return groups
