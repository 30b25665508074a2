"""Conversation state as a fold (reducer): message after message into a state of bounded size.

The state holds everything that policy and features read, and nothing of the model. The same fold
runs when a message is scored and again when its outcome is learned, so training cannot drift from
serving, and any past decision can be made again from the stored text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from learning.conversation.speaker import (
    MEMORY,
    SpeakerState,
    add_message,
    forget,
    reply_similarity,
)
from learning.text.handover_talk import (
    automatic,
    consents,
    offers_person,
    promises_person,
    waits,
)
from learning.text.own_words import own_words
from learning.text.signals import (
    EVIDENCE_CHARS_MAX,
    EVIDENCE_MAX,
    QUIET,
    Signals,
    read,
    read_own,
    shorten,
)
from learning.text.similarity import words

CONFIDENCE_LOW = 0.4
"""A bot that reports less confidence than this failed to understand."""

ACTS = 3
"""How many of the newest messages are remembered by what they do."""

ORDER = 4
"""Of so many of the newest messages it is remembered which side sent them."""


RUN = 4
"""Of a run of the customer's messages so many short ones are read together."""

RUN_CHARS = 60
"""Longer messages are no piece of a split request."""

BOT_TEXTS, BOT_CHARS = 3, 400
"""So many of the bot's last texts, each to this length, are remembered for offers and promises."""


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

    `event` is of system messages only: handed_over; how a handoff ended (returned, resolved,
    unanswered, abandoned); an offer that was declined or ignored; assigned. `agent` is the person
    who speaks, or to whom it was assigned. `attachments` are (type, name) of what came with it.
    `advice` are probabilities that a person is needed, from elsewhere, by name; on a system message
    with the event advice they came late. `format` is text, html, markdown or email; None: it is
    recognised. `reading` is what its text shows, where that was read beforehand
    (`with_readings`). `edits` is the id of the message that it is a
    newer version of. The `event` of a customer's message is None, or removed: its words are gone.
    `redacted` are the kinds of personal data that were replaced in its text, and `sealed` the
    encrypted original, where it is kept: the fold sees neither.
    """

    id: str
    author: str
    text: str
    at: float
    language: str | None = None
    bot: BotReport | None = None
    attributes: tuple[tuple[str, str | float | bool], ...] = ()
    event: str | None = None
    format: str | None = None
    agent: str | None = None
    attachments: tuple[tuple[str, str | None], ...] = ()
    advice: tuple[tuple[str, float], ...] = ()
    edits: str | None = None
    reading: TextReading | None = field(default=None, compare=False, repr=False)
    redacted: tuple[str, ...] = field(default=(), compare=False)
    sealed: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TextReading:
    """What the fold needs of a text: most of its cost. `own` are the customer's own words."""

    words: tuple[str, ...]
    own: str = ""
    language: str | None = None
    signals: Signals = QUIET


def with_readings(messages: Iterable[Message], language: str | None = None) -> list[Message]:
    """The messages with their texts read, so that `step` costs little however long they are. Pure.

    `language` is what the conversation was said to be in before them; `step` does not use what was
    read in another.
    """
    result = []
    for message in messages:
        language = message.language or language
        heard = message.author in ("user", "bot")
        result.append(replace(message, reading=_reading(message, language)) if heard else message)
    return result


def read_text(author: str, text: str, written: str | None, language: str | None) -> TextReading:
    """What the fold needs of a text by this author, `written` in a format, in the language of its
    conversation. Pure.
    """
    if author == "bot":
        return TextReading(words(text))
    own = own_words(shorten(text), written)
    return TextReading(words(own.text), own.text, language, read_own(own, language))


def unread_chars(messages: Iterable[Message]) -> int:
    """Characters of the texts that have yet to be read."""
    return sum(len(message.text) for message in messages if message.reading is None)


def _reading(message: Message, language: str | None) -> TextReading:
    return read_text(message.author, message.text, message.format, language)


NOBODY = SpeakerState()


@dataclass(frozen=True, slots=True)
class State:
    """A conversation so far, seen from its newest message. Its size has a bound.

    `signals` are of the newest message of the customer, whose id is `signals_id`. `sentiment` is
    a running mean, and `trend` how far the newest message lies above (or, below zero, under) it;
    `gloom` and `cheer` are fading sums of what was negative and positive. `acts` says what each of
    the newest messages did, `order` which side sent them (u or b, the newest last).
    `unanswered` says that a person was asked for and did not come in time.
    `advice` is what others say of the newest message; `late_advice` counts from the next one on.
    `run_texts` are the short texts of the customer's present run, `bot_texts` the bot's last ones.
    The counts of turns are of the whole conversation; all else begins anew once a person had it.
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
    returned_at: float = 0.0
    declined_at: float = 0.0
    unanswered: bool = False
    run_texts: tuple[str, ...] = ()
    bot_texts: tuple[str, ...] = ()
    advice: tuple[tuple[str, float], ...] = ()
    late_advice: tuple[tuple[str, float], ...] = ()

    @property
    def repeats(self) -> int:
        return self.user.repeats

    @property
    def repeat_ids(self) -> tuple[str, ...]:
        return self.user.repeat_ids

    @property
    def short_repeats(self) -> int:
        return self.user.short_repeats

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
    if message.advice or state.advice or state.late_advice:
        changes |= _advice_changes(state, message)
    if message.bot is not None:
        changes |= _report_changes(state, message.id, message.bot)
    if message.author == "user":
        changes |= {} if message.event == "removed" else _user_changes(state, message)
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


def _advice_changes(state: State, message: Message) -> dict[str, Any]:
    """What came with the message, and what came late of those who say nothing of this one."""
    names = {name for name, _ in message.advice}
    late = tuple((name, p) for name, p in state.late_advice if name not in names)
    return {"advice": tuple(sorted(message.advice + late)), "late_advice": late}


def _report_changes(state: State, message_id: str, report: BotReport) -> dict[str, Any]:
    attempt = report.attempt or report.intent
    return {
        "failures": state.failures + report.failed,
        "failure_ids": _append_bounded(state.failure_ids, message_id if report.failed else None),
        "attempts": _append_bounded(state.attempts, attempt),
    }


def _user_changes(state: State, message: Message) -> dict[str, Any]:
    language = message.language or state.language
    reading = message.reading
    if reading is None or reading.language != language:
        reading = _reading(message, language)
    tokens = reading.words
    signals = _with_request_in_context(state, reading.signals, reading.own, language)
    sentiment = signals.sentiment
    first = not state.user.distinct_words
    earlier = state.user if message.edits is None else forget(state.user, message.edits)
    name = message.edits or message.id
    user = add_message(earlier, name, tokens, state.bot, again=state.author == "user")
    if user.repeats > 1 and automatic(reading.own):
        user = replace(user, repeats=1, repeat_ids=(message.id,), short_repeats=1)
    return {
        "user": user,
        "reply_similarity": reply_similarity(user, state.bot),
        "acts": (*state.acts, "user " + user.act)[-ACTS:],
        "order": (state.order + "u")[-ORDER:],
        "signals": signals,
        "signals_id": message.id,
        "run_texts": _run(state, reading.own),
        "sentiment": sentiment if first else 0.6 * state.sentiment + 0.4 * sentiment,
        "trend": 0.0 if first else sentiment - state.sentiment,
        "gloom": 0.7 * state.gloom + min(sentiment, 0.0),
        "cheer": 0.7 * state.cheer + max(sentiment, 0.0),
        "user_since_return": _increment(state.user_since_return),
        "user_since_decline": _increment(state.user_since_decline),
    }


def _run(state: State, text: str) -> tuple[str, ...]:
    """The short texts of the customer's present run, with this one; a long one ends it."""
    if len(text) > RUN_CHARS:
        return ()
    return (*(state.run_texts if state.author == "user" else ()), text)[-RUN:]


def _with_request_in_context(
    state: State, signals: Signals, text: str, language: str | None
) -> Signals:
    """The signals with the request that only the turns before show: one split over a run of short
    messages, consent to the bot's offer of a person, or waiting for one whom it promised.
    """
    if signals.request is not None or not text.strip():
        return signals
    asked = _split_request(state, text, language)
    if asked is None and state.bot_texts:
        last = state.bot_texts[-1]
        consent = state.author == "bot" and consents(text, last) and offers_person(last)
        if consent or (waits(text) and any(map(promises_person, state.bot_texts))):
            asked = text.strip()[:EVIDENCE_CHARS_MAX]
    if asked is None:
        return signals
    evidence = tuple(sorted({*signals.evidence, ("request", text.strip()[:EVIDENCE_CHARS_MAX])}))
    return replace(signals, request=asked, evidence=evidence[:EVIDENCE_MAX])


def _split_request(state: State, text: str, language: str | None) -> str | None:
    """A request that the short messages of one run show together."""
    run = _run(state, text)
    if len(run) < 2:
        return None
    for first in range(len(run) - 2, -1, -1):
        joined = read(" ".join(dict.fromkeys(run[first:])), language).request
        if joined is not None:
            return joined
    return None


def _bot_changes(state: State, message: Message) -> dict[str, Any]:
    tokens = (message.reading or _reading(message, None)).words
    bot = add_message(state.bot, message.id, tokens, state.user, again=state.author == "bot")
    return {
        "bot": bot,
        "run_texts": (),
        "bot_texts": (*state.bot_texts, message.text[-BOT_CHARS:])[-BOT_TEXTS:],
        "reply_similarity": reply_similarity(bot, state.user),
        "acts": (*state.acts, "bot " + bot.act)[-ACTS:],
        "order": (state.order + "b")[-ORDER:],
    }


def _apply_system_event(state: State, message: Message) -> State:
    if message.event == "ignored":  # noted when the next message comes: no turn of anybody
        return replace(state, user_since_decline=0, declined_at=message.at)
    if message.event == "advice":
        late = dict(state.late_advice) | dict(message.advice)
        return replace(state, late_advice=tuple(sorted(late.items())))
    if message.event == "removed":  # the words are gone from where they stood
        return state
    changes = _message_changes(state, message)
    if message.event == "handed_over":
        changes |= {"with_agent": True, "unanswered": False}
    elif message.event == "declined":
        changes |= {"user_since_decline": 0, "declined_at": message.at, "unanswered": False}
    elif message.event == "unanswered":
        changes |= {"with_agent": False, "unanswered": True}
        changes |= {"user_since_return": None, "user_since_decline": None}  # it was asked for since
    elif message.event in ("returned", "resolved", "abandoned"):
        return _after_handoff(state, message, changes)
    return replace(state, **changes)


def _after_handoff(state: State, message: Message, changes: dict[str, Any]) -> State:
    """The conversation is the bot's again, and begins anew; only a return begins a cool-down."""
    if message.event == "returned":
        changes |= {"user_since_return": 0, "returned_at": message.at}
    return State(
        **changes | {"report": None},
        user=SpeakerState(turns=state.user.turns),
        bot=SpeakerState(turns=state.bot.turns),
        user_since_decline=state.user_since_decline,
        declined_at=state.declined_at,
    )


def _increment(count: int | None) -> int | None:
    return None if count is None else count + 1


def _append_bounded(ids: tuple[str, ...], item: str | None) -> tuple[str, ...]:
    return (*ids, item)[-MEMORY:] if item else ids
