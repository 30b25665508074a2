"""Readable names and values of a state, for any estimator that learns from dictionaries.

Words of text are named "<namespace>=<token>" or "<namespace>=<token>_<token>". A namespace says
whose words they are and whether they are judged: `user` and `bot` when a customer's message is
scored (its words, and those of the bot's last message); `reply` and `asked` when the bot's own
message is scored (its words, and those of the customer's message that it answers). Context names
hold no "=", so nothing a customer writes can name one.
"""

from __future__ import annotations

import math

from learning.conversation import Side, State

WORDS_MAX = 64
"""Of each message this many tokens at most become features; enough for 99 % of messages."""

_TOPICS = (
    "cancellation",
    "complaint",
    "identity",
    "legal",
    "refund",
    "safety",
    "security",
    "technical",
)

CONTEXT: tuple[str, ...] = (
    "by_user",
    "first",
    "turns",
    "long",
    "run",
    "length",
    "length_change",
    "answered",
    "nearest",
    "repeats",
    "repeated",
    "bot_length",
    "bot_nearest",
    "bot_repeats",
    "bot_repeated",
    "bot_run",
    "sentiment",
    "negative",
    "positive",
    "mood",
    "trend",
    "request",
    "urgency",
    "frustration",
    "profanity",
    "questions",
    "complexity",
    "failures",
    "failed",
    "confidence",
    "tool_error",
    "waited",
    "since_return",
    "since_decline",
    *(f"topic_{name}" for name in _TOPICS),
)
"""Every context name that `features` may give; absent means zero."""


def features(state: State) -> dict[str, float]:
    """Names and values of the state's newest message. Pure, bounded, finite."""
    found = _context(state)
    if state.author == "bot":
        _add(found, "reply=", state.bot.words)
        _add(found, "asked=", state.user.words)
    else:
        _add(found, "user=", state.user.words)
        _add(found, "bot=", state.bot.words)
    for name, value in state.attributes[:16]:
        if isinstance(value, str):
            found[f"attribute={name[:32]}_{value[:32]}"] = 1.0
        else:
            found[f"attribute={name[:32]}"] = _squashed(float(value))
    return found


def _add(found: dict[str, float], namespace: str, said: tuple[str, ...]) -> None:
    words = [namespace + word for word in said[:WORDS_MAX]]
    if words:
        names = [a + "_" + b for a, b in zip(words, said[1:WORDS_MAX], strict=False)]
        found.update(dict.fromkeys(words + names, 1.0))


def _context(state: State) -> dict[str, float]:
    user, bot, signals = state.user, state.bot, state.signals
    by_bot = state.author == "bot"
    own = bot if by_bot else user
    found = {
        "by_user": 0.0 if by_bot else 1.0,
        "first": float(own.turns <= 1),
        "turns": min(own.turns, 20) / 10,
        "long": float(own.turns > 8),
        "run": min(own.run, 4) - 1.0,
        "length": math.log1p(len(user.words)) / 2,
        "length_change": _change(user),
        "answered": state.answered,
        "nearest": user.nearest,
        "repeats": min(user.repeats, 4) - 1.0,
        "repeated": min(user.repeated, 4) / 2,
        "bot_length": math.log1p(len(bot.words)) / 2,
        "bot_nearest": bot.nearest,
        "bot_repeats": min(bot.repeats, 4) - 1.0,
        "bot_repeated": min(bot.repeated, 4) / 2,
        "bot_run": float(min(bot.run, 4)),
        "sentiment": signals.sentiment,
        "negative": float(signals.sentiment < -0.2),
        "positive": float(signals.sentiment > 0.4),
        "mood": state.sentiment,
        "trend": state.trend,
        "request": float(signals.request is not None),
        "urgency": signals.urgency,
        "frustration": signals.frustration,
        "profanity": float(signals.profanity),
        "questions": min(signals.questions, 4) / 2,
        "complexity": signals.complexity,
        "failures": min(state.failures, 6) / 3,
        "waited": math.log1p(min(int(state.waited / 60), 1440)) / 4,
    }
    found.update({f"topic_{t}": 1.0 for t in signals.topics if t in _TOPICS})
    if (report := state.report) is not None:
        found["failed"] = float(report.failed)
        found["tool_error"] = float(bool(report.tool_error))
        if report.confidence is not None and math.isfinite(report.confidence):
            found["confidence"] = min(max(report.confidence, 0.0), 1.0)
    if state.user_since_return is not None:
        found["since_return"] = 1.0 / (1 + state.user_since_return)
    if state.user_since_decline is not None:
        found["since_decline"] = 1.0 / (1 + state.user_since_decline)
    return found


def _change(side: Side) -> float:
    return math.log((1 + len(side.words)) / (1 + side.length)) if side.turns else 0.0


def _squashed(value: float) -> float:
    if not math.isfinite(value):
        return 0.0
    return math.copysign(math.log1p(min(abs(value), 1e9)), value) / 4
