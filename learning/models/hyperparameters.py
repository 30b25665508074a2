"""A recipe's parameters, as people write them: `name=value`, a list as `value:value`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

Value = int | float | tuple[float, ...]

LIST_MAX = 4
"""Most values of a parameter that is a list: each is an expert of its own, with its own arrays."""


class ParameterError(LookupError):
    """There is no such parameter, or it cannot have that value; the message says which can be."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number, a whole number, or a list of numbers, as `default` is; from `least` to `most`."""

    default: Value
    least: float
    most: float

    def read(self, text: str) -> Value:
        """The value that a text names. Raises ValueError for one that is not allowed."""
        parts = text.split(":") if isinstance(self.default, tuple) else [text]
        if len(parts) > LIST_MAX:
            raise ValueError(f"at most {LIST_MAX} values")
        kind = int if isinstance(self.default, int) else float
        values = [kind(part) for part in parts]
        if not all(math.isfinite(v) and self.least <= v <= self.most for v in values):
            raise ValueError(f"from {self.least:g} to {self.most:g}")
        return tuple(values) if isinstance(self.default, tuple) else values[0]


def format_value(value: Value) -> str:
    """The shortest text that `Parameter.read` takes for the same value, to the bit."""
    if isinstance(value, tuple):
        return ":".join(format_value(one) for one in value)
    return repr(value)


def parse_parameters(known: Mapping[str, Parameter], text: str) -> dict[str, Value]:
    """The parameters that `name=value,name=value` sets, those at their default left out.

    In the order in which they are known, so that equal settings are equal texts. Raises
    ParameterError.
    """
    given: dict[str, Value] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in known:
            raise ParameterError(f"there is no parameter {name!r}; {_offered(known)}")
        if name in given:
            raise ParameterError(f"parameter {name} is given twice; leave one out")
        try:
            given[name] = known[name].read(value)
        except ValueError as error:
            raise ParameterError(f"parameter {name} cannot be {value!r} ({error})") from None
    return {n: given[n] for n, one in known.items() if n in given and given[n] != one.default}


def _offered(known: Mapping[str, Parameter]) -> str:
    shown = ", ".join(f"{name}={format_value(one.default)}" for name, one in known.items())
    return f"there are {shown}" if shown else "it has none"
