"""What a conversation is about, in names and values: what routing learns from.

Whether a person is needed shows in the newest messages; whose work it is was often said long
before, and "let me talk to somebody" says nothing of it. So the words of all the customer's
remembered messages stand here, each once, the older the fainter. No name is a context name:
each holds "=", so nothing here can meet another feature's bucket by name.
"""

from __future__ import annotations

import math
from itertools import pairwise

from learning.conversation import State

NEWEST, FADING = 2.0, 0.8
"""Length of the words' vector, and how much fainter each earlier message speaks."""

WORDS_MAX = 192


def matter(state: State) -> dict[str, float]:
    """Names and values of a state. Pure, bounded, finite, in an order of their own."""
    newest = state.user.words
    spoken: dict[str, float] = dict.fromkeys(newest, 1.0)
    faint = 1.0
    for heard in reversed(state.user.heard[:-1]):
        faint *= FADING
        for word in sorted(heard):
            spoken.setdefault(word, faint)
    kept = dict(sorted(list(spoken.items())[:WORDS_MAX]))
    length = math.sqrt(sum(value * value for value in kept.values())) or 1.0
    found = {f"said={word}": NEWEST * value / length for word, value in kept.items()}
    pairs = sorted({f"said={a}_{b}" for a, b in pairwise(newest)})
    found.update(dict.fromkeys(pairs, 1.0 / math.sqrt(max(len(pairs), 1))))
    if state.report is not None and state.report.intent:
        found["intent=" + state.report.intent[:64]] = 1.0
    found.update(dict.fromkeys(["tried=" + tried[:64] for tried in state.attempts], 1.0))
    found.update(dict.fromkeys(["topic=" + topic for topic in state.signals.topics], 1.0))
    for name, value in state.attributes[:16]:
        if isinstance(value, str):
            found[f"attribute={name[:32]}_{value[:32]}"] = 1.0
    return found
