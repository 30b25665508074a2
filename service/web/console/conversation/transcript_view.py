"""A context packet as its page shows it: turns with marks, reasons with where they show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONG_CHARS = 1200
"""A longer text gets a frame of its own to scroll in."""

_SIGNALS = {
    "request": "asks for a person",
    "punctuation": "is loud",
    "urgent": "is urgent",
    "exasperation": "is exasperated",
    "profanity": "swears",
}


@dataclass(frozen=True, slots=True)
class HighlightedText:
    """A stretch of a text; `shows` says what its words show, `led` that a rule went by them."""

    text: str
    shows: str = ""
    led: bool = False


@dataclass(frozen=True, slots=True)
class TranscriptTurn:
    """A message on the page. `because` says why it led to a person; `may_begin` that an agent may
    say that a person was needed since then.
    """

    seq: int
    id: str
    author: str
    at: float
    event: str | None
    pieces: tuple[HighlightedText, ...]
    is_long: bool
    because: tuple[str, ...]
    handed_over: bool
    may_begin: bool
    tried: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a person was asked for; `kind` is of its trigger, and `turns` are where it shows."""

    text: str
    weight: float
    kind: str
    turns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Mood:
    """Sentiment over time as a line: `points` lie between 0 and 300, and 0 (good) and 60 (bad)."""

    points: tuple[tuple[float, float], ...]
    said: str


def turns(packet: Mapping[str, Any], escalated: int, may_begin: range) -> list[TranscriptTurn]:
    """Every turn of the transcript; a person may have been needed since those in `may_begin`."""
    marks = _by_message(packet["evidence"])
    tried = {one["message_id"]: one for one in packet["attempts"]}
    led: dict[str, list[str]] = {}
    for trigger in packet["triggers"]:
        for message in trigger["message_ids"]:
            led.setdefault(message, []).append(_led(trigger))
    return [
        TranscriptTurn(
            turn["seq"],
            turn["id"],
            turn["author"],
            turn["at"],
            turn["event"],
            tuple(_pieces(turn["text"], marks.get(turn["id"], ()))),
            len(turn["text"]) > LONG_CHARS,
            tuple(led.get(turn["id"], ())),
            turn["seq"] == escalated,
            turn["author"] == "user" and turn["seq"] in may_begin,
            tried.get(turn["id"]),
        )
        for turn in packet["transcript"]
    ]


def _led(trigger: Mapping[str, Any]) -> str:
    """A trigger in a word or two."""
    said = {"request": "asks for a person", "model": "the model's word"}
    return said.get(trigger["kind"]) or str(trigger["name"]).replace("_", " ")


def reasons(packet: Mapping[str, Any], seqs: Mapping[str, int]) -> list[Reason]:
    """The reasons, those of triggers first: a decision tells them in the triggers' order."""
    found = []
    for number, reason in enumerate(packet["reasons"]):
        ours = packet["triggers"][number : number + 1]
        messages = ours[0]["message_ids"] if ours else ()
        kind = ours[0]["kind"] if ours else ""
        at = tuple(sorted(seqs[one] for one in messages if one in seqs))
        found.append(Reason(reason["text"], reason["weight"], kind, at))
    return found


def mood(packet: Mapping[str, Any]) -> Mood | None:
    """The customer's sentiment as a line, and the same in words; None before the second message."""
    felt = [one["sentiment"] for one in packet["sentiment"]]
    if len(felt) < 2:
        return None
    step = 296.0 / (len(felt) - 1)
    points = tuple((round(2 + n * step, 1), round(30 - 26 * x, 1)) for n, x in enumerate(felt))
    lowest = min(range(len(felt)), key=felt.__getitem__)
    first, last = _feeling(felt[0]), _feeling(felt[-1])
    said = f"{first} at first, {last} now" if first != last else f"{first} at first and now"
    if felt[lowest] < min(felt[0], felt[-1]):
        said += f", lowest at message {lowest + 1} of {len(felt)} ({_feeling(felt[lowest])})"
    return Mood(points, said)


def _feeling(sentiment: float) -> str:
    bars = ((-0.5, "very negative"), (-0.05, "negative"), (0.05, "neutral"), (0.5, "positive"))
    return next((name for bar, name in bars if sentiment <= bar), "very positive")


def _by_message(found: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    by: dict[str, list[Mapping[str, Any]]] = {}
    for one in found:
        by.setdefault(one["message_id"], []).append(one)
    return by


def _pieces(text: str, marks: Sequence[Mapping[str, Any]]) -> Iterator[HighlightedText]:
    at = 0
    for mark in marks:
        if mark["signal"] == "punctuation" and not mark["led"]:
            continue
        if at < mark["start"]:
            yield HighlightedText(text[at : mark["start"]])
        shows = _SIGNALS.get(mark["signal"], f"speaks of {mark['signal'].removeprefix('says:')}")
        yield HighlightedText(text[mark["start"] : mark["stop"]], shows, mark["led"])
        at = mark["stop"]
    if at < len(text):
        yield HighlightedText(text[at:])


def route(packet: Mapping[str, Any], team: str) -> str:
    """By whose word it is for its team, in words."""
    found, suggested = packet["route"] or {}, packet["suggested_team"]
    model = found.get("suggested")
    by = {"rule": f"by the rule {found.get('rule')}", "model": "by the model"}.get(
        found.get("by", ""), "by default"
    )
    said = f"For team {suggested}, {by}"
    if model and (found.get("by") == "model" or model["team"] != suggested):
        share = f"{model['probability']:.0%}"
        said += f" ({share})" if found.get("by") == "model" else ""
        said += f"; the model suggests {model['team']} ({share})" if found["by"] != "model" else ""
    return said + (f"; moved to {team}" if team != suggested else "")
