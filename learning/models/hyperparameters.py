"""Hyperparameters of a recipe and their text form: `name=value`, a list as `value:value`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

Value = int | float | str | tuple[float, ...] | tuple[str, ...]

LIST_MAX = 4
"""Most values of a parameter that is a list: each is an expert of its own, with its own arrays."""


class ParameterError(LookupError):
    """There is no such parameter, or it cannot have that value; the message says which can be."""


class Settable(Protocol):
    """What may stand in a recipe's name: a default, and how its text is read."""

    @property
    def default(self) -> Value: ...

    def parse(self, text: str) -> Value:
        """Parse a value. Raises ValueError for one that is not allowed."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A hyperparameter: a number, a whole number, or a list of them, as `default` is; bounded."""

    default: Value
    least: float
    most: float

    def parse(self, text: str) -> Value:
        """Parse a value. Raises ValueError for one that is not allowed."""
        parts = text.split(":") if isinstance(self.default, tuple) else [text]
        if len(parts) > LIST_MAX:
            raise ValueError(f"at most {LIST_MAX} values")
        number = int if isinstance(self.default, int) else float
        values = [number(part) for part in parts]
        if not all(math.isfinite(v) and self.least <= v <= self.most for v in values):
            raise ValueError(f"from {self.least:g} to {self.most:g}")
        return tuple(values) if isinstance(self.default, tuple) else values[0]


def format_value(value: Value) -> str:
    """Shortest text that `Parameter.parse` takes for the same value, to the bit."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return ":".join(format_value(item) for item in value)
    return repr(value)


def parse_parameters(parameters: Mapping[str, Settable], text: str) -> dict[str, Value]:
    """Parse the parameters that `name=value,name=value` sets, without those at their default.

    In the order of `parameters`, so that equal settings are equal texts. Raises ParameterError.
    """
    values: dict[str, Value] = {}
    for setting in filter(None, text.split(",")):
        name, _, value = setting.partition("=")
        if name not in parameters:
            raise ParameterError(f"there is no parameter {name!r}; {_list_defaults(parameters)}")
        if name in values:
            raise ParameterError(f"parameter {name} is given twice; leave one out")
        try:
            values[name] = parameters[name].parse(value)
        except ValueError as error:
            raise ParameterError(f"parameter {name} cannot be {value!r} ({error})") from None
    return {
        n: values[n]
        for n, parameter in parameters.items()
        if n in values and values[n] != parameter.default
    }


def _list_defaults(parameters: Mapping[str, Settable]) -> str:
    defaults = ", ".join(
        f"{name}={format_value(parameter.default)}" for name, parameter in parameters.items()
    )
    return f"there are {defaults}" if defaults else "it has none"
