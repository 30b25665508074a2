"""A conversation as a fold: message after message into a state of bounded size.

The state holds everything that policy and features read, and nothing of the model. The same fold
runs when a message is scored and again when its outcome is learned, so training cannot drift from
serving, and any past decision can be made again from the stored text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from learning.signals import QUIET, Signals, read
from learning.words import similarity, words

MEMORY = 8
"""How many earlier messages, ids and attempts of each kind a state remembers."""

CONFIDENCE_LOW = 0.4
"""A bot that reports less confidence than this failed to understand."""

REPEATS_FROM = 0.7
"""Two messages this similar (see `words.similarity`) ask nearly the same thing."""

REPEATS_WORDS = 3
"""Shorter messages ("yes", "thank you") are never taken for a repeated question."""


@dataclass(frozen=True, slots=True)
class BotReport:
    """What the bot says of its own work at a message; `attempt` names what it tried."""

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
    """

    id: str
    author: str
    text: str
    at: float
    language: str | None = None
    bot: BotReport | None = None
    attributes: tuple[tuple[str, str | float | bool], ...] = ()
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """What is remembered of one side's messages: of the customer's, or of the bot's.

    `words` are the newest message's, `before` those of the one before it; `memory` holds ids and
    distinct words of the newest ones, oldest first. `repeats` counts how often the newest message
    has now been said, nearly the same (1 = first time); `repeat_ids` names those messages.
    `nearest` is its greatest similarity to a remembered one, `length` the running mean of words.
    """

    turns: int = 0
    run: int = 0
    words: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    memory: tuple[tuple[str, frozenset[str]], ...] = ()
    repeats: int = 1
    repeat_ids: tuple[str, ...] = ()
    repeated: int = 0
    nearest: float = 0.0
    length: float = 0.0


NOBODY = Side()


@dataclass(frozen=True, slots=True)
class State:
    """A conversation so far, seen from its newest message. Its size has a bound.

    `signals` are of the newest message of the customer, whose id is `signals_id`. `sentiment` is
    a running mean, and `trend` how far the newest message lies above (or, below zero, under) it.
    The counts of turns are of the whole conversation; all else begins anew at a return.
    """

    message_id: str = ""
    author: str = ""
    turns: int = 0
    language: str | None = None
    at: float = 0.0
    began: float = 0.0
    waited: float = 0.0
    user: Side = NOBODY
    bot: Side = NOBODY
    answered: float = 0.0
    signals: Signals = QUIET
    signals_id: str = ""
    sentiment: float = 0.0
    trend: float = 0.0
    failures: int = 0
    failure_ids: tuple[str, ...] = ()
    attempts: tuple[str, ...] = ()
    report: BotReport | None = None
    attributes: tuple[tuple[str, str | float | bool], ...] = ()
    with_agent: bool = False
    user_since_return: int | None = None
    user_since_decline: int | None = None

    @property
    def user_turns(self) -> int:
        return self.user.turns

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


def fold(messages: Iterable[Message], state: State = EMPTY) -> State:
    """The state after all of `messages`."""
    for message in messages:
        state = step(state, message)
    return state


def step(state: State, message: Message) -> State:
    """The state after one more message. Pure: the same arguments always give the same state."""
    state = replace(
        state,
        message_id=message.id,
        author=message.author,
        turns=state.turns + (message.author != "system"),
        language=message.language or state.language,
        at=message.at,
        began=state.began if state.turns else message.at,
        waited=max(0.0, message.at - state.at) if state.turns else 0.0,
        report=message.bot,
        attributes=message.attributes or state.attributes,
    )
    if message.bot is not None:
        state = _reported(state, message.id, message.bot)
    if message.author == "user":
        return _said_by_user(state, message)
    if message.author == "bot":
        return _said_by_bot(state, message)
    if message.author == "system":
        return _happened(state, message.event)
    return state


def _reported(state: State, message_id: str, report: BotReport) -> State:
    tried = report.attempt or report.intent
    return replace(
        state,
        failures=state.failures + report.failed,
        failure_ids=_kept(state.failure_ids, message_id) if report.failed else state.failure_ids,
        attempts=_kept(state.attempts, tried) if tried else state.attempts,
    )


def _said_by_user(state: State, message: Message) -> State:
    said = words(message.text)
    signals = read(message.text, state.language)
    first = state.user.turns == 0 or not state.user.memory
    sentiment = signals.sentiment if first else 0.6 * state.sentiment + 0.4 * signals.sentiment
    return replace(
        state,
        user=_said(state.user, message.id, said),
        bot=replace(state.bot, run=0),
        answered=similarity(frozenset(said), frozenset(state.bot.words)),
        signals=signals,
        signals_id=message.id,
        sentiment=sentiment,
        trend=0.0 if first else signals.sentiment - state.sentiment,
        user_since_return=_one_more(state.user_since_return),
        user_since_decline=_one_more(state.user_since_decline),
    )


def _said_by_bot(state: State, message: Message) -> State:
    said = words(message.text)
    return replace(
        state,
        bot=_said(state.bot, message.id, said),
        user=replace(state.user, run=0),
        answered=similarity(frozenset(said), frozenset(state.user.words)),
    )


def _said(side: Side, message_id: str, said: tuple[str, ...]) -> Side:
    distinct = frozenset(said)
    near = [(similarity(distinct, earlier), known) for known, earlier in side.memory]
    same = [known for how, known in near if how >= REPEATS_FROM]
    if len(distinct) < REPEATS_WORDS:
        same = []
    return Side(
        turns=side.turns + 1,
        run=side.run + 1,
        words=said,
        before=side.words,
        memory=(*side.memory, (message_id, distinct))[-MEMORY:],
        repeats=1 + len(same),
        repeat_ids=(*same, message_id),
        repeated=side.repeated + bool(same),
        nearest=max((how for how, _ in near), default=0.0),
        length=len(said) if not side.memory else 0.7 * side.length + 0.3 * len(said),
    )


def _happened(state: State, event: str | None) -> State:
    if event == "handed_over":
        return replace(state, with_agent=True)
    if event == "declined":
        return replace(state, user_since_decline=0)
    if event == "returned":
        return State(
            message_id=state.message_id,
            author=state.author,
            turns=state.turns,
            language=state.language,
            at=state.at,
            began=state.began,
            user=Side(turns=state.user.turns),
            bot=Side(turns=state.bot.turns),
            attributes=state.attributes,
            user_since_return=0,
            user_since_decline=state.user_since_decline,
        )
    return state


def _one_more(count: int | None) -> int | None:
    return None if count is None else count + 1


def _kept(known: tuple[str, ...], new: str) -> tuple[str, ...]:
    return (*known, new)[-MEMORY:]
