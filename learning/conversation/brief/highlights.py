"""Where in the customer's messages the words stand that a rule or the model went by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from learning.text.signals import Signals
from learning.text.similarity import words

MARKS_MAX = 16
"""Most marks in one message."""

_BESIDES = {"frustration": ("exasperation", "profanity", "punctuation"), "urgency": ("urgent",)}
"""What a rule may watch that is shown by evidence of other names."""


@dataclass(frozen=True, slots=True)
class Highlight:
    """The characters `start` to `stop` of a message show `signal`.

    `led` says that it is what a trigger of the handoff went by.
    """

    message_id: str
    start: int
    stop: int
    signal: str
    led: bool


def highlights(
    message_id: str, text: str, signals: Signals, watched: Sequence[str] = ()
) -> tuple[Highlight, ...]:
    """The marks of a message, in order and none overlapping another.

    `watched` is what the triggers of this very message watch ("request", "topic:legal",
    "says:cancel my plan"). Where marks would overlap, one that led goes first, then the longer.
    """
    led = _names(watched)
    found: list[Highlight] = []
    for signal, matched in signals.evidence:
        start = text.find(matched)
        if start >= 0 and matched:
            found.append(Highlight(message_id, start, start + len(matched), signal, signal in led))
    for watches in watched:
        span = _said(text, watches[5:]) if watches.startswith("says:") else None
        if span is not None:
            found.append(Highlight(message_id, *span, watches, True))
    kept: list[Highlight] = []
    for mark in sorted(found, key=lambda m: (not m.led, m.start - m.stop, m.start, m.signal)):
        if all(mark.stop <= other.start or other.stop <= mark.start for other in kept):
            kept.append(mark)
    return tuple(sorted(kept[:MARKS_MAX], key=lambda mark: mark.start))


def _names(watched: Sequence[str]) -> frozenset[str]:
    plain = [watches.removeprefix("topic:") for watches in watched]
    return frozenset(plain).union(*(_BESIDES.get(name, ()) for name in plain))


def _said(text: str, wanted: str) -> tuple[int, int] | None:
    """Where the words of a `says:` rule stand: from the first one's begin to the last one's end."""
    lowered, at, begin = text.lower(), 0, None
    if len(lowered) != len(text):
        return None
    for word in words(wanted):
        place = lowered.find(word, at)
        if place < 0:
            return None
        begin = place if begin is None else begin
        at = place + len(word)
    return None if begin is None else (begin, at)
