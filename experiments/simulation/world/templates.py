"""Text templates of customers, bots and agents, read from this package's data files.

All of it was written for Baton. A template is text with choices, `[a|b|]`, and slots, `{order}`;
a few hundred of them make far more sentences than a model could learn by heart.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

Template = tuple[str | tuple[str, ...], ...]
"""Pieces in order: text as it stands, or a choice."""

_CHOICE = re.compile(r"\[([^\]]*)\]")
_BEFORE_MARK = re.compile(r"\s+(?=[,.:;])")


def template(text: str) -> Template:
    """Parse one template. A choice does not hold another choice."""
    parts = _CHOICE.split(text)
    return tuple(
        tuple(part.split("|")) if place % 2 else part for place, part in enumerate(parts) if part
    )


def fill(templates: Sequence[Template], rng: Random, slots: Mapping[str, str]) -> str:
    """One of the templates, choices drawn and slots filled; KeyError for an unknown slot."""
    chosen = pick(templates, rng)
    text = "".join(p if isinstance(p, str) else pick(p, rng) for p in chosen)
    if "{" in text:
        text = text.format_map(slots)
    return _BEFORE_MARK.sub("", " ".join(text.split()))


def pick(among: Sequence[T], rng: Random) -> T:
    """One of them, each as likely: half the cost of `Random.choice`."""
    return among[int(rng.random() * len(among))]


@cache
def data(name: str) -> Mapping[str, Any]:
    """A data file of this package, parsed once. Its lists of text stay plain text."""
    parsed: dict[str, Any] = tomllib.loads(files(__package__).joinpath(name).read_text("utf-8"))
    return parsed


@cache
def templates(*path: str) -> tuple[Template, ...]:
    """The parsed templates at a place of talk.toml; KeyError where there is none."""
    node: Any = data("talk.toml")
    for name in path:
        node = node[name]
    return tuple(template(text) for text in node)
