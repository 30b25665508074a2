"""Answer of `/chat/completions` as a probability: expected digit by its logprobs, or JSON."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from service.connections.judge.question import Form

P_MIN = 0.01
DIGITS_MASS_MIN = 0.5
"""Where digits have less of the probability the model meant to say something else."""


class NoLogprobsError(ValueError):
    """The server gives none, so its model has to say a probability itself."""


def read_probability(body: bytes, form: Form) -> float | None:
    """The probability that a person is needed; None where the answer is unreadable. Raises
    NoLogprobsError.
    """
    try:
        choice = json.loads(body)["choices"][0]
        if form == "logprob":
            return _expected(choice)
        return _said(choice["message"]["content"])
    except NoLogprobsError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None


def _expected(choice: Any) -> float | None:
    """The expectation over digits of the first token."""
    content = (choice.get("logprobs") or {}).get("content")
    if not content or not content[0].get("top_logprobs"):
        raise NoLogprobsError
    masses = [0.0] * 10
    for one in content[0]["top_logprobs"]:
        token = one["token"].strip()
        if token in tuple("0123456789"):
            masses[int(token)] += math.exp(min(0.0, one["logprob"]))
    mass = sum(masses)
    if not DIGITS_MASS_MIN <= mass <= 2.0:
        return None
    return _clamped(sum(digit * share for digit, share in enumerate(masses)) / mass / 9)


def _said(content: str) -> float | None:
    """The `probability` of the one JSON object in the text, whatever stands round it."""
    match = re.search(r"\{[^{}]*\}", content)
    if match is None:
        return None
    probability = json.loads(match.group())["probability"]
    if isinstance(probability, bool) or not isinstance(probability, int | float):
        return None
    return _clamped(probability) if 0 <= probability <= 1 else None


def _clamped(probability: float) -> float:
    return round(min(1 - P_MIN, max(P_MIN, probability)), 4)
