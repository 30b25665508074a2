"""View model of the conversation page: turns with highlights, reasons, sentiment as a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.web.console.language.names import N_, named
from service.web.console.language.reason_text import reason_text
from service.web.console.language.translations import gettext

LONG_CHARS = 1200
"""A longer text gets a frame of its own to scroll in."""

SUGGESTED_MIN = 0.4
"""Below it the model's word for another team is not told."""

_SIGNALS = {
    "request": N_("asks for a person"),
    "punctuation": N_("is loud"),
    "urgent": N_("is urgent"),
    "exasperation": N_("is exasperated"),
    "profanity": N_("swears"),
}


@dataclass(frozen=True, slots=True)
class HighlightedText:
    """Highlight: a stretch of a text; `shows` says what its words show, `led` that a rule fired."""

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
    edits: str | None
    is_removed: bool
    tried: Mapping[str, Any] | None
    agent: str | None
    attachments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReasonView:
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
    highlights = _by_message(packet["evidence"])
    attempts = {attempt["message_id"]: attempt for attempt in packet["attempts"]}
    labels: dict[str, list[str]] = {}
    for trigger in packet["triggers"]:
        for message in trigger["message_ids"]:
            labels.setdefault(message, []).append(_trigger_label(trigger))
    return [
        TranscriptTurn(
            turn["seq"],
            turn["id"],
            turn["author"],
            turn["at"],
            turn["event"],
            tuple(_pieces(turn["text"], highlights.get(turn["id"], ()))),
            len(turn["text"]) > LONG_CHARS,
            tuple(labels.get(turn["id"], ())),
            turn["seq"] == escalated,
            turn["author"] == "user" and turn["seq"] in may_begin and not turn["removed"],
            turn["edits"],
            turn["removed"],
            attempts.get(turn["id"]),
            turn["agent"],
            tuple(_attachment(part) for part in turn["attachments"]),
        )
        for turn in packet["transcript"]
    ]


def _attachment(part: Mapping[str, Any]) -> str:
    """What came with a message, as far as it was said: "receipt.jpg (image)"."""
    kind = named(str(part["type"]))
    return f"{part['name']} ({kind})" if part["name"] else kind


def _trigger_label(trigger: Mapping[str, Any]) -> str:
    """A trigger in a word or two."""
    labels = {"request": gettext("asks for a person"), "model": gettext("the model's word")}
    return labels.get(trigger["kind"]) or named(str(trigger["name"]))


def reasons(packet: Mapping[str, Any], seqs: Mapping[str, int]) -> list[ReasonView]:
    """The reasons, those of triggers first: a decision tells them in the triggers' order.

    What spoke against a person, and whose work it sounds like, is no reason for one.
    """
    views: list[ReasonView] = []
    for number, reason in enumerate(packet["reasons"]):
        text = reason_text(reason)
        is_told = any(text in view.text for view in views)
        if is_told or reason.get("code") in ("held_back", "team_suggested"):
            continue
        trigger = packet["triggers"][number : number + 1]
        messages = trigger[0]["message_ids"] if trigger else ()
        kind = trigger[0]["kind"] if trigger else ""
        at = tuple(sorted(seqs[name] for name in messages if name in seqs))
        views.append(ReasonView(text, reason["weight"], kind, at))
    return views


def mood(packet: Mapping[str, Any]) -> Mood | None:
    """The customer's sentiment as a line, and the same in words; None before the second message,
    and where it is not English, the only language in which sentiment is read.
    """
    values = [point["sentiment"] for point in packet["sentiment"]]
    language = (packet["language"] or {}).get("code") or "en"
    if len(values) < 2 or not language.startswith("en"):
        return None
    step = 296.0 / (len(values) - 1)
    points = tuple((round(2 + n * step, 1), round(30 - 26 * x, 1)) for n, x in enumerate(values))
    lowest = min(range(len(values)), key=values.__getitem__)
    first, last = _feeling(values[0]), _feeling(values[-1])
    if first == last:
        text = gettext("%(first)s at first and now") % {"first": first}
    else:
        text = gettext("%(first)s at first, %(last)s now") % {"first": first, "last": last}
    if values[lowest] < min(values[0], values[-1]):
        low = {"n": lowest + 1, "count": len(values), "feeling": _feeling(values[lowest])}
        text += gettext(", lowest at message %(n)s of %(count)s (%(feeling)s)") % low
    return Mood(points, text)


def _feeling(sentiment: float) -> str:
    bars = (
        (-0.5, gettext("very negative")),
        (-0.05, gettext("negative")),
        (0.05, gettext("neutral")),
        (0.5, gettext("positive")),
    )
    return next((name for bar, name in bars if sentiment <= bar), gettext("very positive"))


def _by_message(highlights: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    by_message: dict[str, list[Mapping[str, Any]]] = {}
    for highlight in highlights:
        by_message.setdefault(highlight["message_id"], []).append(highlight)
    return by_message


def _pieces(text: str, highlights: Sequence[Mapping[str, Any]]) -> Iterator[HighlightedText]:
    at = 0
    for mark in highlights:
        if mark["signal"] == "punctuation" and not mark["led"]:
            continue
        if at < mark["start"]:
            yield HighlightedText(text[at : mark["start"]])
        shows = _shown(mark["signal"])
        yield HighlightedText(text[mark["start"] : mark["stop"]], shows, mark["led"])
        at = mark["stop"]
    if at < len(text):
        yield HighlightedText(text[at:])


def _shown(signal: str) -> str:
    """What marked words show."""
    if signal in _SIGNALS:
        return gettext(_SIGNALS[signal])
    return gettext("speaks of %(topic)s") % {"topic": named(signal.removeprefix("says:"))}


def route(packet: Mapping[str, Any], team: str) -> str:
    """Routing in words: whose word chose the team."""
    chosen, suggested = packet["route"] or {}, packet["suggested_team"]
    model, by = chosen.get("suggested"), chosen.get("by", "")
    told = {"team": suggested, "rule": named(str(chosen.get("rule")))}
    text = {
        "rule": gettext("For team %(team)s, by the rule %(rule)s"),
        "model": gettext("For team %(team)s, by the model"),
    }.get(by, gettext("For team %(team)s, by default")) % told
    if model and (by == "model" or model["team"] != suggested):
        share = f"{model['probability']:.0%}"
        if by == "model":
            text += f" ({share})"
        elif model["probability"] >= SUGGESTED_MIN:
            other = {"team": model["team"], "share": share}
            text += gettext("; the model suggests %(team)s (%(share)s)") % other
    return text + (gettext("; moved to %(team)s") % {"team": team} if team != suggested else "")
