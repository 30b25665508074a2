"""Feature extraction: readable names and values of a conversation state, for any online estimator.

Words are named "<namespace>=<word>" or "<namespace>=<word>_<word>". A namespace says whose words
they are and whether they are judged: `user` and `bot` when a customer's message is scored (its
words, and those of the bot's last message); `reply` and `asked` when the bot's own message is
scored (its words, and those of the customer's message that it answers). `pair` crosses the first
words of both, `near` and `again` are words said anew, `cross` how long, new and late the messages
are, `acts` what the last ones did, `order` which side sent them, `intent` and `tried` what the bot
reported. Context names hold no "=", so nothing a customer writes can name one; those of a scored
bot message begin with "reply_".

Each group of words shares one vector length, whatever their number, so that a long message weighs
no more than a short one; the scales were chosen by measurement on four data sets.

`parts` gives them by namespace, for the hashing of `learning.models.hashed_features`; `features`
spells their names out.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from learning.conversation.speaker import SETBACKS, SpeakerState
from learning.conversation.state import State
from learning.text.signals import TOPICS

WORDS_MAX = 64
"""Of each message this many words at most become features; enough for 99 % of messages."""

SCORED, OTHER, BEFORE = 3.7, 1.9, 1.0
"""Scale of the words of the scored message, of the other side's last, of the own one before."""

NEAR, AGAIN = 0.7, 1.2
"""Scale of the scored words once more, by how near the message comes to an earlier one, and where
it follows another of its own side: said again, or without an answer, words mean something else."""

EDGE, PAIR, CROSS = 1.5, 2.0, 0.7
"""Scale of the scored message's beginning and end, of pairs of both sides' words, and of crossed
context."""

_NEAR = (0.0, 0.35, 0.7)
_LENGTHS = tuple(2.0 ** (k / 2) - 1.0 for k in range(1, 15))
_NEARNESS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 0.999)
_TURNS_MAX, _RUNS_MAX = 12, 4
_COARSE_LENGTHS = (2, 4, 8, 16, 32)
_COARSE_NEARNESS = (0.0, 0.1, 0.35, 0.7, 0.95)


def _steps(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{k}" for k in range(count))


_TURN = _steps("turn", _TURNS_MAX + 1)
_RUN = _steps("run", _RUNS_MAX + 1)
_LENGTH = _steps("length", len(_LENGTHS) + 1)
_OTHER_LENGTH = _steps("other_length", len(_LENGTHS) + 1)
_NEAREST = {side: _steps(f"{side}_nearest", len(_NEARNESS) + 1) for side in ("user", "bot")}
_SIDE = (
    "nearest", "latest", "known", "echoed", "alike", "nearly", "same", "denies", "denied_before",
    "turns_away", "turned_before",
)  # fmt: skip
_PLAIN = (
    "scored", "turns", "answered", "sentiment", "negative", "positive", "mood", "trend", "gloom",
    "cheer", "questions", "urgency", "frustration", "complexity", "request", "profanity",
    "failures", "failed", "tool_error", "confidence", "waited", "since_return", "since_decline",
)  # fmt: skip
_SIDE_NAMES = {side: tuple(f"{side}_{name}" for name in _SIDE) for side in ("user", "bot")}
_NAMES = (
    *_PLAIN,
    *(f"topic_{topic}" for topic in TOPICS),
    *(*_SIDE_NAMES["user"], *_SIDE_NAMES["bot"]),
    *(*_TURN, *_RUN, *_LENGTH, *_OTHER_LENGTH, *_NEAREST["user"], *_NEAREST["bot"]),
)
CONTEXT: tuple[str, ...] = (*_NAMES, *("reply_" + name for name in _NAMES))
"""Every context name that `features` may give; absent means zero."""


Parts = dict[str, dict[str, float]]
"""Values by namespace and by what follows it in a name: a word, or several that "_" joins."""


def features(state: State) -> dict[str, float]:
    """Feature dictionary of the state's newest message. Pure, bounded, finite."""
    return {
        namespace + word: value
        for namespace, part in parts(state).items()
        for word, value in part.items()
    }


def parts(state: State) -> Parts:
    """The features grouped by namespace, in the order of `features`."""
    if state.author == "bot":
        groups: Parts = {"reply_": _context(state)}
        _text_features(groups, "reply", "asked", state.bot, state.user)
        groups["reply_cross="] = dict.fromkeys(_cross_features(state.bot, state.user), CROSS)
    else:
        groups = {"": _context(state)}
        _text_features(groups, "user", "bot", state.user, state.bot)
        groups["user_cross="] = dict.fromkeys(_cross_features(state.user, state.bot), CROSS)
    _attempt_features(groups, state)
    attributes: dict[str, float] = {}
    for name, value in state.attributes[:16]:
        if isinstance(value, str):
            attributes[f"{name[:32]}_{value[:32]}"] = 1.0
        else:
            attributes[name[:32]] = _squash(float(value))
    groups["attribute="] = attributes
    return groups


NAMED_WORDS_MAX = 12
"""Of the scored message, so many words at most are named as causes, the longest."""

MOOD = ("sentiment", "negative", "mood", "trend", "gloom", "frustration", "profanity")
"""Context that says how the customer feels."""


_TELLS_NOTHING = re.compile(r"[a-z]{1,2}|0+|[.,]")
"""Such as "a", "to" and numbers (all read as 0), which explain nothing to who reads a reason."""


def names(state: State, groups: Parts) -> dict[str, frozenset[str]]:
    """What moves the model, in words that a person uses: each with the features that it stands for.

    `groups` are the state's `parts`. Words of the message come in quotation marks, then what
    happened and what is known.
    """
    context = groups.get("", groups.get("reply_", {}))
    side = "reply_" if state.author == "bot" else ""
    by_phrase = _named_words(state, groups)
    for phrase, those in _named_context(state, context):
        by_phrase[phrase] = frozenset(side + name for name in those)
    for namespace, label in (("intent=", "the bot took it for"), ("tried=", "the bot tried")):
        for word in groups.get(namespace, ()):
            by_phrase[f"{label} {word}"] = frozenset([namespace + word])
    for word in groups["attribute="]:
        by_phrase[word.replace("_", " ")] = frozenset(["attribute=" + word])
    return by_phrase


def _named_words(state: State, groups: Parts) -> dict[str, frozenset[str]]:
    own = state.bot if state.author == "bot" else state.user
    telling = (word for word in own.words[:WORDS_MAX] if not _TELLS_NOTHING.fullmatch(word))
    longest = sorted(dict.fromkeys(telling), key=len, reverse=True)
    named: dict[str, set[str]] = {word: set() for word in longest[:NAMED_WORDS_MAX]}
    prefix = "reply" if state.author == "bot" else "user"
    for namespace, group in groups.items():
        if namespace.startswith(prefix) and namespace.endswith("="):
            for name in group:
                for word in name.split("_"):
                    if word in named:
                        named[word].add(namespace + name)
    return {f"“{word}”": frozenset(those) for word, those in named.items() if those}


def _named_context(
    state: State, context: Mapping[str, float]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    if state.failures:
        times = "once" if state.failures == 1 else f"{state.failures} times"
        yield f"automation failed {times}", ("failures", "failed", "tool_error", "confidence")
    if state.repeats > 1:
        yield "asked nearly the same before", tuple(n for n in context if n.startswith("user_"))
    if state.bot_repeats > 1:
        yield (
            "the bot answered nearly the same before",
            tuple(name for name in context if name.startswith("bot_")),
        )
    if state.signals.sentiment < 0 or state.signals.frustration:
        yield "the customer is upset", MOOD
    if state.signals.urgency:
        yield "the customer is in a hurry", ("urgency",)
    for topic in state.signals.topics:
        yield f"it is about {topic.replace('_', ' ')}", (f"topic_{topic}",)
    if state.turns >= 6:
        turns = tuple(name for name in context if name.startswith("turn"))
        yield "the conversation is long", (*turns, "waited")


def _attempt_features(groups: Parts, state: State) -> None:
    """What the newest messages did and who sent them; what the bot says it understood and tried."""
    acts = state.acts[::-1]
    groups["acts="] = dict.fromkeys(["|".join(acts[:k]) for k in range(1, len(acts) + 1)], 1.0)
    if state.order:
        groups["order="] = {state.order: 1.0}
    if state.report is not None and state.report.intent:
        groups["intent="] = {state.report.intent[:64]: 1.0}
    groups["tried="] = dict.fromkeys([attempt[:64] for attempt in state.attempts], 1.0)


def _text_features(
    groups: Parts, scored: str, other: str, own: SpeakerState, replied_to: SpeakerState
) -> None:
    mine, theirs = own.words[:WORDS_MAX], replied_to.words[:WORDS_MAX]
    groups[scored + "="] = _equal_weights(_with_pairs(mine), SCORED, 0.6)
    groups[other + "="] = _equal_weights(_with_pairs(theirs), OTHER, 0.6)
    groups[scored + "_before="] = _equal_weights(own.before[:WORDS_MAX], BEFORE, 0.5)
    groups[f"{scored}_near{bisect_right(_NEAR, own.nearest)}="] = _equal_weights(mine, NEAR, 0.5)
    if own.run > 1:
        groups[scored + "_again="] = _equal_weights(mine, AGAIN, 0.5)
    if mine:
        starts = dict.fromkeys(["_".join(mine[:k]) for k in (1, 2, 3)])
        ends = dict.fromkeys([mine[-1], "_".join(mine[-2:])])
        edge = EDGE / (len(starts) + len(ends)) ** 0.5
        groups[scored + "_start="] = dict.fromkeys(starts, edge)
        groups[scored + "_end="] = dict.fromkeys(ends, edge)
        edges = (*theirs[:3], *theirs[-2:])
        pairs = [f"{a}_{b}" for a in mine[:3] for b in edges]
        groups[scored + "_pair="] = _equal_weights(pairs, PAIR, 0.5)


def _with_pairs(tokens: Sequence[str]) -> list[str]:
    return [*tokens, *[f"{a}_{b}" for a, b in pairwise(tokens)]]


def _equal_weights(words: Iterable[str], scale: float, power: float) -> dict[str, float]:
    """Distinct words, whose values make a vector of one length."""
    distinct = dict.fromkeys(words)
    return dict.fromkeys(distinct, scale / len(distinct) ** power) if distinct else {}


def _context(state: State) -> dict[str, float]:
    by_bot = state.author == "bot"
    own, other = (state.bot, state.user) if by_bot else (state.user, state.bot)
    values = {
        "scored": 1.0,
        "turns": min(own.turns, 20) / 10,
        "answered": state.reply_similarity,
        _TURN[min(own.turns, _TURNS_MAX)]: 1.0,
        _RUN[min(own.run, _RUNS_MAX)]: 1.0,
        _LENGTH[bisect_right(_LENGTHS, len(own.words))]: 1.0,
        "failures": min(state.failures, 6) / 3,
        "waited": math.log1p(min(int(state.wait / 60), 1440)) / 4,
    }
    if other.distinct_words:
        values[_OTHER_LENGTH[bisect_right(_LENGTHS, len(other.words))]] = 1.0
    _repetition_features(values, "user", state.user)
    _repetition_features(values, "bot", state.bot)
    _sentiment_features(values, state)
    if (report := state.report) is not None:
        values["failed"] = float(report.failed)
        values["tool_error"] = float(bool(report.tool_error))
        if report.confidence is not None and math.isfinite(report.confidence):
            values["confidence"] = min(max(report.confidence, 0.0), 1.0)
    if state.user_since_return is not None:
        values["since_return"] = 1.0 / (1 + state.user_since_return)
    if state.user_since_decline is not None:
        values["since_decline"] = 1.0 / (1 + state.user_since_decline)
    return values


def _repetition_features(values: dict[str, float], name: str, side: SpeakerState) -> None:
    """How a side's newest message stands to what was said before it."""
    if not side.distinct_words:
        return
    alike, nearly, same = side.near
    own = (
        max(side.nearest, 0.0),
        side.latest,
        side.known_share,
        side.echoed_share,
        min(alike, 4) / 2,
        min(nearly, 4) / 2,
        min(same, 4) / 2,
        float("denial" in side.cues),
        float("denial" in side.cues_before),
        float(not SETBACKS.isdisjoint(side.cues)),
        float(not SETBACKS.isdisjoint(side.cues_before)),
    )
    values.update(zip(_SIDE_NAMES[name], own, strict=True))
    values[_NEAREST[name][bisect_right(_NEARNESS, side.nearest)]] = 1.0


def _cross_features(own: SpeakerState, other: SpeakerState) -> tuple[str, ...]:
    """Pairs of context that mean more together: a linear model cannot multiply."""
    new, old = (
        bisect_right(_COARSE_NEARNESS, own.nearest),
        bisect_right(_COARSE_NEARNESS, other.nearest),
    )
    size, its_size = (bisect_right(_COARSE_LENGTHS, len(side.words)) for side in (own, other))
    turn, run = min(own.turns, 8), min(own.run, 3)
    return (
        f"new{new}_new{old}",
        f"size{size}_size{its_size}",
        f"new{new}_size{size}",
        f"its_new{old}_size{its_size}",
        f"turn{turn}_new{new}",
        f"its_turn{turn}_new{old}",
        f"run{run}_new{new}_{old}",
        f"run{run}_size{size}",
    )


def _sentiment_features(values: dict[str, float], state: State) -> None:
    """What the customer's newest message shows by itself, and their mood so far."""
    if not state.signals_id:
        return
    signals = state.signals
    values["sentiment"] = signals.sentiment
    values["negative"] = float(signals.sentiment < -0.2)
    values["positive"] = float(signals.sentiment > 0.4)
    values["mood"] = state.sentiment
    values["trend"] = state.trend
    values["gloom"] = state.gloom
    values["cheer"] = state.cheer
    values["questions"] = min(signals.questions, 4) / 2
    values["urgency"] = signals.urgency
    values["frustration"] = signals.frustration
    values["complexity"] = signals.complexity
    values["request"] = float(signals.request is not None)
    values["profanity"] = float(signals.profanity)
    for topic in signals.topics:
        values["topic_" + topic] = 1.0


def _squash(value: float) -> float:
    if not math.isfinite(value):
        return 0.0
    return math.copysign(math.log1p(min(abs(value), 1e9)), value) / 4
