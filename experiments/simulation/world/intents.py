"""Intents of simulated customers: frequency, the bot's skill, and hazard of needing a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from experiments.simulation.world.templates import Template, data, template


@dataclass(frozen=True, slots=True)
class Intent:
    """One table of intents.toml, where its fields are explained."""

    name: str
    weight: float
    base: float
    per_failure: float
    skill: float
    asks: float
    wants: str
    team: str
    needs_product: bool
    open: tuple[Template, ...]
    hard: tuple[Template, ...]
    easy: tuple[Template, ...]
    answer: tuple[Template, ...]
    ask: tuple[Template, ...]
    steps: tuple[Template, ...]


@cache
def intents() -> Mapping[str, Intent]:
    """All intents by name, in the order of the file."""
    by_name = {}
    for name, table in data("intents.toml").items():
        fields: dict[str, Any] = {"needs_product": False, "steps": [], **table}
        for key in ("open", "hard", "easy", "answer", "ask", "steps"):
            fields[key] = tuple(template(text) for text in fields[key])
        by_name[name] = Intent(name=name, **fields)
    return MappingProxyType(by_name)


@cache
def shares() -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The names of the intents and their cumulative weights, as `Random.choices` wants them."""
    total, names, cumulative = 0.0, [], []
    for name, intent in intents().items():
        total += intent.weight
        names.append(name)
        cumulative.append(total)
    return tuple(names), tuple(cumulative)
