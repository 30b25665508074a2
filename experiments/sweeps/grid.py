"""Grid and random search spaces: recipes by combinations of values, or drawn from ranges."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence

from learning.models.recipes import RECIPES, get_recipe

TRIALS_MAX = 10_000


class SweepError(ValueError):
    """A search space that cannot be tried; the message says what can."""


EVERY = tuple(RECIPES)
"""The recipes that are tried where none is named."""


def named_values(options: Sequence[str]) -> dict[str, list[str]]:
    """Options written `name=value[,value..]`, by name. Raises SweepError."""
    values: dict[str, list[str]] = {}
    for option in options:
        name, equals, texts = option.partition("=")
        if not (name and equals and texts) or name in values:
            raise SweepError(f"{option!r} cannot be read; write name=value[,value..], a name once")
        values[name] = texts.split(",")
    return values


def grid(recipes: Sequence[str], values: Mapping[str, Sequence[str]]) -> list[str]:
    """Every recipe with every combination of the values that it has parameters for.

    Each in its one spelling, and once. Raises SweepError for a parameter that no recipe has, and
    UnknownRecipe for a value that cannot be.
    """
    if ranged := [text for texts in values.values() for text in texts if ".." in text]:
        raise SweepError(f"{ranged[0]!r} is a range; name values, or draw from it with --random")
    spellings: list[str] = []
    for plain, own in _own_values(recipes, values):
        count = math.prod(len(texts) for texts in own.values())
        if len(spellings) + count > TRIALS_MAX:
            raise SweepError(f"more than {TRIALS_MAX} trials; name fewer values, or use --random")
        every = itertools.product(*own.values())
        spellings += [_spell(plain, dict(zip(own, chosen, strict=True))) for chosen in every]
    return list(dict.fromkeys(spellings))


def draw_trials(
    recipes: Sequence[str], values: Mapping[str, Sequence[str]], count: int, seed: int
) -> list[str]:
    """So many different trials drawn from the grid, in which `low..high` is any value between.

    Ranges are drawn from on a logarithmic scale where they begin above zero; the same seed draws
    the same trials. Fewer come where the grid has no more.
    """
    if count > TRIALS_MAX:
        raise SweepError(f"at most {TRIALS_MAX} trials, not {count}")
    draw, choices = random.Random(seed), _own_values(recipes, values)
    spellings: dict[str, None] = {}
    for _ in range(count * 20):
        if len(spellings) == count:
            break
        plain, own = draw.choice(choices)
        chosen = {name: _draw_value(draw, draw.choice(texts)) for name, texts in own.items()}
        spellings[_spell(plain, chosen)] = None
    return list(spellings)


def _own_values(
    recipes: Sequence[str], values: Mapping[str, Sequence[str]]
) -> list[tuple[str, dict[str, Sequence[str]]]]:
    """Each recipe with the values of those parameters that it has."""
    by_name = {plain: get_recipe(plain) for plain in recipes}
    for name in values:
        if not any(name in recipe.parameters for recipe in by_name.values()):
            parameters = ", ".join(
                sorted({p for recipe in by_name.values() for p in recipe.parameters})
            )
            raise SweepError(
                f"none of {', '.join(by_name)} has a parameter {name!r}; there are {parameters}"
            )
    return [
        (plain, {name: texts for name, texts in values.items() if name in recipe.parameters})
        for plain, recipe in by_name.items()
    ]


def _draw_value(draw: random.Random, text: str) -> str:
    low, dots, high = text.partition("..")
    if not dots:
        return text
    try:
        least, most = float(low), float(high)
    except ValueError:
        raise SweepError(f"{text!r} is no range; write it as low..high") from None
    if not (math.isfinite(least) and least < most < math.inf):
        raise SweepError(f"{text!r} is no range; write it as low..high")
    if least > 0.0:
        value = math.exp(draw.uniform(math.log(least), math.log(most)))
    else:
        value = draw.uniform(least, most)
    return f"{value:.3g}"


def _spell(plain: str, chosen: Mapping[str, str]) -> str:
    """A recipe, which may have parameters already, with those chosen in their place."""
    name, _, options = plain.partition("?")
    before = dict(part.split("=", 1) for part in options.split(",") if part)
    parameters = ",".join(f"{name}={text}" for name, text in (before | dict(chosen)).items())
    return get_recipe(f"{name}?{parameters}").name
