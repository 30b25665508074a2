"""What to do about a message: rules first, then the least expected cost.

The model says how probable it is that a person is needed; the policy says what follows from
that. It is a value, kept in the ledger, and `decide` is a pure function of policy, state and
score, so any past decision can be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from learning.conversation import State

Action = Literal["continue", "offer", "escalate"]
PROTECTED = ("request", "identity", "security")
"""Rules that always escalate: no model, cool-down, capacity or hour holds them back."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Costs(_Frozen):
    """What mistakes cost, in any one unit; only the ratios matter."""

    unneeded: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    missed: Annotated[float, Field(gt=0, le=1e6)] = 4.0
    ask: Annotated[float, Field(ge=0, le=1e6)] = 0.15


class Accepting(_Frozen):
    """Share of customers who accept an offered person, when one is and is not needed."""

    needed: Annotated[float, Field(ge=0, le=1)] = 0.9
    unneeded: Annotated[float, Field(ge=0, le=1)] = 0.25


class Rule(_Frozen):
    """Fires when what it `watches` reads `at_least` so much in the newest message's state."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_-]*$")]
    watches: Annotated[str, Field(max_length=64)]
    at_least: Annotated[float, Field(gt=0, le=1000)] = 1.0
    action: Literal["offer", "escalate"] = "escalate"
    team: Annotated[str, Field(min_length=1, max_length=64)] = "support"
    priority: Annotated[int, Field(ge=1, le=4, description="1 is served first")] = 3
    enabled: bool = True

    @model_validator(mode="after")
    def _can_be_read(self) -> Rule:
        if self.watches not in READINGS and not self.watches.startswith("topic:"):
            known = ", ".join(sorted(READINGS))
            raise ValueError(f"watches must be topic:<name> or one of: {known}")
        if self.name in PROTECTED and (not self.enabled or self.action != "escalate"):
            raise ValueError(f"rule {self.name} always escalates; it can be neither off nor softer")
        return self


def default_rules() -> tuple[Rule, ...]:
    return (
        Rule(name="request", watches="request", priority=2),
        Rule(name="identity", watches="topic:identity", team="identity", priority=2),
        Rule(name="security", watches="topic:security", team="security", priority=1),
        Rule(name="safety", watches="topic:safety", team="safety", priority=1),
        Rule(name="legal", watches="topic:legal", team="legal", priority=2),
        Rule(name="repeated_by_customer", watches="repeats", at_least=3),
        Rule(name="failed_automation", watches="failures", at_least=3),
        Rule(name="repeated_by_bot", watches="bot_repeats", at_least=3, action="offer"),
        Rule(name="frustration", watches="frustration", at_least=0.8, action="offer"),
    )


class Audits(_Frozen):
    """How many kept conversations are reviewed, and how: shares of them, reviews a day, times."""

    uniform_share: Annotated[float, Field(ge=0, le=1)] = 0.03
    targeted_share: Annotated[float, Field(ge=0, le=1)] = 0.02
    per_day: Annotated[int, Field(ge=0, le=100_000)] = 100
    per_reviewer_per_day: Annotated[int, Field(ge=1, le=10_000)] = 40
    double_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    offered_seconds: Annotated[int, Field(ge=60, le=604_800)] = 1800


class Silence(_Frozen):
    """What it means that nobody complained: nothing, unless a weight is given to it.

    A kept conversation about which nothing was heard for `after_seconds` teaches "no person was
    needed" with that share of a lesson's weight. Too much of it and the model confirms itself.
    """

    after_seconds: Annotated[int, Field(ge=3600, le=31_536_000)] = 259_200
    weight: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class Policy(_Frozen):
    """Costs, rules and waiting times of a workspace."""

    costs: Costs = Costs()
    accepting: Accepting = Accepting()
    rules: Annotated[tuple[Rule, ...], Field(max_length=100)] = Field(default_factory=default_rules)
    default_team: Annotated[str, Field(min_length=1, max_length=64)] = "support"
    cooldown_messages: Annotated[int, Field(ge=0, le=100)] = 3
    claim_seconds: Annotated[int, Field(ge=10, le=86_400)] = 900
    waiting_seconds: Annotated[int, Field(ge=60, le=604_800)] = 86_400
    audits: Audits = Audits()
    silence: Silence = Silence()

    @field_validator("rules")
    @classmethod
    def _keeps_protected_rules(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        names = [rule.name for rule in rules]
        missing = [name for name in PROTECTED if name not in names]
        if missing:
            raise ValueError(f"rules must keep {', '.join(missing)}: they always escalate")
        if len(set(names)) != len(names):
            raise ValueError("each rule needs a name of its own")
        watched = {rule.name: rule for rule in rules}
        for name, watches in _PROTECTED_WATCH.items():
            if watched[name].watches != watches or watched[name].at_least > 1:
                raise ValueError(f"rule {name} must watch {watches} at_least 1 or less")
        return rules

    @property
    def thresholds(self) -> Thresholds:
        """Where the least expected cost changes from one action to the next.

        With q the probability that a person is needed, continuing costs q*missed, escalating
        (1-q)*unneeded, and offering ask + q*(1-a1)*missed + (1-q)*a0*unneeded. Where offering is
        never the cheapest, both thresholds are the one between continuing and escalating.
        """
        c, a = self.costs, self.accepting
        plain = c.unneeded / (c.unneeded + c.missed)
        gain = a.needed * c.missed + a.unneeded * c.unneeded
        offer = (c.ask + a.unneeded * c.unneeded) / gain if gain else 1.0
        risk = (1 - a.needed) * c.missed + (1 - a.unneeded) * c.unneeded
        escalate = ((1 - a.unneeded) * c.unneeded - c.ask) / risk if risk else 0.0
        if offer >= escalate:
            return Thresholds(plain, plain)
        return Thresholds(offer, escalate)


@dataclass(frozen=True, slots=True)
class Thresholds:
    offer: float
    escalate: float


@dataclass(frozen=True, slots=True)
class Trigger:
    """What spoke for a person, and the messages that show it."""

    kind: Literal["request", "rule", "loop", "model"]
    name: str
    message_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reason:
    """A sentence for people, and how much it weighed (0 to 1)."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class Choice:
    action: Action
    triggers: tuple[Trigger, ...]
    reasons: tuple[Reason, ...]
    team: str
    priority: int
    thresholds: Thresholds


def _shown(read: Callable[[State], float]) -> Callable[[State], float]:
    """Only when the newest message is the one that shows it."""
    return lambda state: read(state) if state.signals_id == state.message_id else 0.0


READINGS: Mapping[str, Callable[[State], float]] = {
    "request": _shown(lambda state: float(state.signals.request is not None)),
    "frustration": _shown(lambda state: state.signals.frustration),
    "urgency": _shown(lambda state: state.signals.urgency),
    "complexity": _shown(lambda state: state.signals.complexity),
    "anger": _shown(lambda state: max(0.0, -state.signals.sentiment)),
    "questions": _shown(lambda state: float(state.signals.questions)),
    "repeats": _shown(lambda state: float(state.repeats)),
    "failures": lambda state: float(state.failures),
    "bot_repeats": lambda state: float(state.bot_repeats),
}
_PROTECTED_WATCH = {
    "request": "request",
    "identity": "topic:identity",
    "security": "topic:security",
}
_LOOPS = frozenset({"repeats", "bot_repeats"})


def reading(state: State, watches: str) -> float:
    """What a rule that `watches` this reads in a state; topics read 0 or 1."""
    if watches.startswith("topic:"):
        shown = state.signals_id == state.message_id
        return float(shown and watches[6:] in state.signals.topics)
    return READINGS[watches](state)


def decide(policy: Policy, state: State, probability: float) -> Choice:
    """The action for the newest message of `state`, given the calibrated probability."""
    thresholds = policy.thresholds
    fired = [
        rule
        for rule in policy.rules
        if rule.enabled and reading(state, rule.watches) >= rule.at_least
    ]
    by_model: Action = "continue"
    if probability >= thresholds.escalate:
        by_model = "escalate"
    elif probability >= thresholds.offer:
        by_model = "offer"
    triggers = [_trigger(rule, state) for rule in fired]
    if by_model != "continue":
        triggers.append(Trigger("model", f"model_{by_model}", (state.message_id,)))
    held = cooling(policy, state)
    counted = [rule for rule in fired if not held or rule.name in PROTECTED]
    wanted = [rule.action for rule in counted] + ([] if held else [by_model])
    action: Action = "continue"
    if "escalate" in wanted:
        action = "escalate"
    elif "offer" in wanted:
        action = "offer"
    leading = min(counted, key=lambda rule: rule.priority, default=None)
    return Choice(
        action,
        tuple(triggers),
        tuple(_reasons(state, fired, probability, by_model, held, thresholds)),
        leading.team if leading else policy.default_team,
        leading.priority if leading else 3,
        thresholds,
    )


def cooling(policy: Policy, state: State) -> bool:
    """Whether a return or a declined offer is so recent that only protected rules act."""
    since = [n for n in (state.user_since_return, state.user_since_decline) if n is not None]
    return bool(since) and min(since) <= policy.cooldown_messages


def _trigger(rule: Rule, state: State) -> Trigger:
    if rule.watches == "request":
        return Trigger("request", rule.name, (state.message_id,))
    evidence = {
        "repeats": state.repeat_ids,
        "bot_repeats": state.bot_repeat_ids,
        "failures": state.failure_ids,
    }.get(rule.watches) or (state.message_id,)
    return Trigger("loop" if rule.watches in _LOOPS else "rule", rule.name, tuple(evidence))


def _reasons(
    state: State,
    fired: list[Rule],
    probability: float,
    by_model: Action,
    held: bool,
    thresholds: Thresholds,
) -> Iterator[Reason]:
    watched = {rule.watches for rule in fired}
    for rule in fired:
        yield Reason(_sentence(rule.watches, state), 1.0)
    if by_model != "continue":
        bar = thresholds.escalate if by_model == "escalate" else thresholds.offer
        yield Reason(f"the model gives {probability:.0%}; the bar is {bar:.0%}", probability)
        for watches, bar in _TELLING.items():
            if watches not in watched and reading(state, watches) >= bar:
                yield Reason(_sentence(watches, state), 0.5)
    if held and (fired or by_model != "continue"):
        yield Reason("held back: a person has just returned or the customer just declined", 0.0)


_TELLING: Mapping[str, float] = {
    "failures": 1,
    "repeats": 2,
    "bot_repeats": 2,
    "frustration": 0.4,
    "anger": 0.4,
    "urgency": 0.5,
    "complexity": 0.5,
    "topic:refund": 1,
    "topic:cancellation": 1,
    "topic:complaint": 1,
    "topic:technical": 1,
}


def _times(count: float) -> str:
    return {1: "once", 2: "twice", 3: "three times"}.get(int(count), f"{int(count)} times")


def _sentence(watches: str, state: State) -> str:
    """What a reading says, in words; the matched words where there are any."""
    found = dict(state.signals.evidence)
    if watches == "request":
        return f"asks for a person: “{state.signals.request}”"
    if watches == "repeats":
        return f"asked nearly the same thing {_times(state.repeats)}"
    if watches == "bot_repeats":
        return f"the bot gave nearly the same answer {_times(state.bot_repeats)}"
    if watches == "failures":
        return f"automation failed {_times(state.failures)}"
    if watches.startswith("topic:"):
        topic = watches[6:]
        words = f": “{found[topic]}”" if topic in found else ""
        after = f" after automation failed {_times(state.failures)}" if state.failures else ""
        return f"speaks of {topic}{words}{after}"
    said = found.get(watches)
    return f"shows {watches}" + (f": “{said}”" if said else "")
