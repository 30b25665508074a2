"""Conversation state as a fold (reducer): message after message into a state of bounded size.

The state holds everything that policy and features read, and nothing of the model. The same fold
runs when a message is scored and again when its outcome is learned, so training cannot drift from
serving, and any past decision can be made again from the stored text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from learning.conversation.speaker import MEMORY, SpeakerState, add_message, reply_similarity
from learning.text.signals import QUIET, Reading, Signals, in_language, prepare, read
from learning.text.similarity import words

CONFIDENCE_LOW = 0.4
"""A bot that reports less confidence than this failed to understand."""

ACTS = 3
"""How many of the newest messages are remembered by what they do."""

ORDER = 4
"""Of so many of the newest messages it is remembered which side sent them."""


@dataclass(frozen=True, slots=True)
class BotReport:
    """What the bot reports of its own work at a message; `attempt` names what it tried."""

    intent: str | None = None
    confidence: float | None = None
    fallback: bool = False
    tool_error: str | None = None
    attempt: str | None = None

    @property
    def failed(self) -> bool:
        low = self.confidence is not None and self.confidence < CONFIDENCE_LOW
        return self.fallback or bool(self.tool_error) or low


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `author` is user, bot, agent or system; `at` is in seconds since the epoch.

    `event` is of system messages only: handed_over, returned or declined (an offer of a person).
    `reading` is what its text shows, where that was read beforehand (`with_reading`).
    """

    id: str
    author: str
    text: str
    at: float
    language: str | None = None
    bot: BotReport | None = None
    attributes: tuple[tuple[str, str | float | bool], ...] = ()
    event: str | None = None
    reading: TextReading | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TextReading:
    """What the fold needs of a text: most of its cost, and no more than its own words."""

    words: tuple[str, ...]
    signals: Reading | None


def with_reading(message: Message) -> Message:
    """The message with its text read, so that `step` costs little however long it is. Pure."""
    if message.author not in ("user", "bot"):
        return message
    signals = prepare(message.text) if message.author == "user" else None
    return replace(message, reading=TextReading(words(message.text), signals))


NOBODY = SpeakerState()


@dataclass(frozen=True, slots=True)
class State:
    """A conversation so far, seen from its newest message. Its size has a bound.

    `signals` are of the newest message of the customer, whose id is `signals_id`. `sentiment` is
    a running mean, and `trend` how far the newest message lies above (or, below zero, under) it;
    `gloom` and `cheer` are fading sums of what was negative and positive. `acts` says what each of
    the newest messages did, `order` which side sent them (u or b, the newest last).
    The counts of turns are of the whole conversation; all else begins anew at a return.
    """

    message_id: str = ""
    author: str = ""
    turns: int = 0
    language: str | None = None
    at: float = 0.0
    wait: float = 0.0
    user: SpeakerState = NOBODY
    bot: SpeakerState = NOBODY
    reply_similarity: float = 0.0
    signals: Signals = QUIET
    signals_id: str = ""
    sentiment: float = 0.0
    trend: float = 0.0
    gloom: float = 0.0
    cheer: float = 0.0
    acts: tuple[str, ...] = ()
    order: str = ""
    failures: int = 0
    failure_ids: tuple[str, ...] = ()
    attempts: tuple[str, ...] = ()
    report: BotReport | None = None
    attributes: tuple[tuple[str, str | float | bool], ...] = ()
    with_agent: bool = False
    user_since_return: int | None = None
    user_since_decline: int | None = None

    @property
    def repeats(self) -> int:
        return self.user.repeats

    @property
    def repeat_ids(self) -> tuple[str, ...]:
        return self.user.repeat_ids

    @property
    def bot_repeats(self) -> int:
        return self.bot.repeats

    @property
    def bot_repeat_ids(self) -> tuple[str, ...]:
        return self.bot.repeat_ids


EMPTY = State()


WORD_BYTES = 60
"""What a remembered word costs, besides its letters."""


def size_of(state: State) -> int:
    """About how many bytes a state holds, at most: words are counted as if nobody shared them."""
    count = letters = 0
    for side in (state.user, state.bot):
        count += len(side.words) + len(side.before) + sum(map(len, side.distinct_words))
        letters += 2 * sum(side.letters)
    for name, value in state.attributes:
        count += 3
        letters += _size_of_text(name) + (_size_of_text(value) if isinstance(value, str) else 0)
    return 4000 + WORD_BYTES * count + letters


def _size_of_text(text: str) -> int:
    return len(text) if text.isascii() else 4 * len(text)


def fold(messages: Iterable[Message], state: State = EMPTY) -> State:
    """The state after all of `messages`."""
    for message in messages:
        state = step(state, message)
    return state


def step(state: State, message: Message) -> State:
    """The state after one more message. Pure: the same arguments always give the same state."""
    if message.author == "system":
        return _apply_system_event(state, message)
    changes = _message_changes(state, message)
    if message.bot is not None:
        changes |= _report_changes(state, message.id, message.bot)
    if message.author == "user":
        changes |= _user_changes(state, message)
    elif message.author == "bot":
        changes |= _bot_changes(state, message)
    return replace(state, **changes)


def _message_changes(state: State, message: Message) -> dict[str, Any]:
    return {
        "message_id": message.id,
        "author": message.author,
        "turns": state.turns + (message.author != "system"),
        "language": message.language or state.language,
        "at": message.at,
        "wait": max(0.0, message.at - state.at) if state.turns else 0.0,
        "report": message.bot or state.report,
        "attributes": message.attributes or state.attributes,
    }


def _report_changes(state: State, message_id: str, report: BotReport) -> dict[str, Any]:
    attempt = report.attempt or report.intent
    return {
        "failures": state.failures + report.failed,
        "failure_ids": _append_bounded(state.failure_ids, message_id if report.failed else None),
        "attempts": _append_bounded(state.attempts, attempt),
    }


def _user_changes(state: State, message: Message) -> dict[str, Any]:
    reading, language = message.reading, message.language or state.language
    if reading is not None and reading.signals is not None:
        tokens, signals = reading.words, in_language(reading.signals, language)
    else:
        tokens, signals = words(message.text), read(message.text, language)
    sentiment = signals.sentiment
    first = not state.user.distinct_words
    user = add_message(state.user, message.id, tokens, state.bot, again=state.author == "user")
    return {
        "user": user,
        "reply_similarity": reply_similarity(user, state.bot),
        "acts": (*state.acts, "user " + user.act)[-ACTS:],
        "order": (state.order + "u")[-ORDER:],
        "signals": signals,
        "signals_id": message.id,
        "sentiment": sentiment if first else 0.6 * state.sentiment + 0.4 * sentiment,
        "trend": 0.0 if first else sentiment - state.sentiment,
        "gloom": 0.7 * state.gloom + min(sentiment, 0.0),
        "cheer": 0.7 * state.cheer + max(sentiment, 0.0),
        "user_since_return": _increment(state.user_since_return),
        "user_since_decline": _increment(state.user_since_decline),
    }


def _bot_changes(state: State, message: Message) -> dict[str, Any]:
    tokens = message.reading.words if message.reading is not None else words(message.text)
    bot = add_message(state.bot, message.id, tokens, state.user, again=state.author == "bot")
    return {
        "bot": bot,
        "reply_similarity": reply_similarity(bot, state.user),
        "acts": (*state.acts, "bot " + bot.act)[-ACTS:],
        "order": (state.order + "b")[-ORDER:],
    }


def _apply_system_event(state: State, message: Message) -> State:
    changes = _message_changes(state, message)
    if message.event == "handed_over":
        changes["with_agent"] = True
    elif message.event == "declined":
        changes["user_since_decline"] = 0
    elif message.event == "returned":
        return State(
            **changes | {"report": None},
            user=SpeakerState(turns=state.user.turns),
            bot=SpeakerState(turns=state.bot.turns),
            user_since_return=0,
            user_since_decline=state.user_since_decline,
        )
    return replace(state, **changes)


def _increment(count: int | None) -> int | None:
    return None if count is None else count + 1


def _append_bounded(ids: tuple[str, ...], item: str | None) -> tuple[str, ...]:
    return (*ids, item)[-MEMORY:] if item else ids
