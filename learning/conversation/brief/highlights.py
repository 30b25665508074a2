"""Evidence highlighting: spans of the customer's messages that a rule or the model went by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from learning.text.lexicon.upset import upset_words
from learning.text.signals import Signals
from learning.text.similarity import words

HIGHLIGHTS_MAX = 16
"""Most marks in one message."""

_EVIDENCE_NAMES = {
    "frustration": ("exasperation", "profanity", "punctuation"),
    "urgency": ("urgent",),
}
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
    """The highlights of a message, in order and none overlapping another.

    `watched` is what the triggers of this very message watch ("request", "topic:legal",
    "says:cancel my plan"). Of overlapping ones, the words of a `says:` rule go first, then what
    led, then the longer.
    """
    trigger_signals = _trigger_signals(watched)
    candidates: list[Highlight] = []
    for signal, matched in signals.evidence:
        start = text.find(matched)
        if start >= 0 and matched:
            candidates.append(
                Highlight(
                    message_id, start, start + len(matched), signal, signal in trigger_signals
                )
            )
    for watches in watched:
        span = _watched_span(text, watches)
        if span is not None:
            candidates.append(Highlight(message_id, *span, watches, True))
    chosen: list[Highlight] = []
    for highlight in sorted(
        candidates,
        key=lambda candidate: (
            not candidate.signal.startswith("says:"),
            not candidate.led,
            candidate.start - candidate.stop,
            candidate.start,
            candidate.signal,
        ),
    ):
        if all(highlight.stop <= other.start or other.stop <= highlight.start for other in chosen):
            chosen.append(highlight)
    return tuple(sorted(chosen[:HIGHLIGHTS_MAX], key=lambda highlight: highlight.start))


def _trigger_signals(watched: Sequence[str]) -> frozenset[str]:
    plain = [watches.removeprefix("topic:") for watches in watched]
    return frozenset(plain).union(*(_EVIDENCE_NAMES.get(name, ()) for name in plain))


def _watched_span(text: str, watches: str) -> tuple[int, int] | None:
    """Where a text shows what a rule watches that is no signal of its own."""
    if watches.startswith("says:"):
        return _phrase_span(text, watches[5:])
    said = upset_words(words(text)) if watches == "upset" else None
    return _phrase_span(text, said) if said else None


def _phrase_span(text: str, phrase: str) -> tuple[int, int] | None:
    """Where the words of a `says:` rule stand: from the first one's begin to the last one's end."""
    lowered, offset, begin = text.lower(), 0, None
    if len(lowered) != len(text):
        return None
    for word in words(phrase):
        place = lowered.find(word, offset)
        if place < 0:
            return None
        begin = place if begin is None else begin
        offset = place + len(word)
    return None if begin is None else (begin, offset)
