"""Decision policy: rules first, then the action of least expected cost (cost-sensitive decision).

The model says how probable it is that a person is needed; the policy says what follows from
that. It is a value, stored in the ledger, and `decide` is a pure function of policy, state and
score, so any past decision can be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, field_validator

from learning.conversation.state import State
from learning.decision.label_requests import LabelRequestPolicy
from learning.decision.opening_hours import Team
from learning.decision.policy_document import PolicyDocument
from learning.decision.promotion_terms import PromotionTerms
from learning.decision.routing import PRIORITY, Route, Routing, Suggestion, route
from learning.decision.rules import (
    NOTABLE_READINGS,
    PROTECTED,
    PROTECTED_WATCH,
    Rule,
    default_rules,
    reading,
    sentence,
)

__all__ = ["PROTECTED", "Policy", "Rule", "Team", "decide", "default_rules", "reading"]

Action = Literal["continue", "offer", "escalate"]


class Costs(PolicyDocument):
    """Misclassification costs, in any one unit; only the ratios matter."""

    unneeded: Annotated[
        float, Field(gt=0, le=1e6, description="What a person costs where nobody was needed.")
    ] = 1.0
    missed: Annotated[
        float,
        Field(
            gt=0, le=1e6, description="What it costs that nobody came where a person was needed."
        ),
    ] = 4.0
    ask: Annotated[float, Field(ge=0, le=1e6, description="What it costs to ask the customer.")] = (
        0.15
    )


class AcceptanceRates(PolicyDocument):
    """Acceptance rates of an offer, when a person is needed and when not."""

    needed: Annotated[
        float, Field(ge=0, le=1, description="Share of those who need a person that accepts one.")
    ] = 0.9
    unneeded: Annotated[
        float, Field(ge=0, le=1, description="Share of those who do not that accepts one.")
    ] = 0.25


class AuditBudget(PolicyDocument):
    """Audit sampling budget: shares of the conversations kept by the bot, reviews a day, times."""

    uniform_share: Annotated[
        float, Field(ge=0, le=1, description="Share of kept conversations drawn at random.")
    ] = 0.03
    targeted_share: Annotated[
        float, Field(ge=0, le=1, description="Share drawn where a label would teach most.")
    ] = 0.02
    per_day: Annotated[int, Field(ge=0, le=100_000, description="Most audits in a day.")] = 100
    per_reviewer_per_day: Annotated[
        int, Field(ge=1, le=10_000, description="Most reviews by one person in a day.")
    ] = 40
    double_share: Annotated[
        float, Field(ge=0, le=1, description="Share of audits reviewed twice.")
    ] = 0.1
    offered_seconds: Annotated[
        int, Field(ge=60, le=604_800, description="How long an audit is one reviewer's.")
    ] = 1800


class SilencePolicy(PolicyDocument):
    """Weak negative label from silence: none, unless it has a weight.

    A conversation kept by the bot about which nothing was heard for `after_seconds` teaches "no
    person was needed" with that share of a lesson's weight. Customers who come back unsettled
    within that time had been missed (`learning.conversation.reopening`).
    """

    after_seconds: Annotated[
        int,
        Field(
            ge=3600,
            le=31_536_000,
            description="Time in which a customer who comes back unsettled had been missed.",
        ),
    ] = 259_200
    weight: Annotated[
        float,
        Field(
            ge=0,
            le=0.5,
            description="Share of a lesson's weight that silence teaches with; 0: nothing.",
        ),
    ] = 0.0


class BotOutcomes(PolicyDocument):
    """How far the outcomes of bots' keys are trusted: they lie in the least protected program."""

    weight: Annotated[
        float, Field(ge=0, le=1, description="What one of them weighs; a person's weighs 1.")
    ] = 0.5
    daily: Annotated[
        int, Field(ge=0, le=100_000, description="So many of a key teach in a day; others wait.")
    ] = 50


class Policy(PolicyDocument):
    """Costs, rules, capacity, hours and waiting times of a workspace.

    `capacity` is the share of decisions that may lead to a handoff. `price` is what it costs: it
    raises the model's thresholds, and `jobs` move it by entries of their own, from 0 (there are
    people enough) to where the model is silent. Rules are not held back by it.
    """

    costs: Annotated[Costs, Field(description="What mistakes and asking cost.")] = Costs()
    accepting: Annotated[AcceptanceRates, Field(description="Who accepts an offered person.")] = (
        AcceptanceRates()
    )
    capacity: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | None,
        Field(
            description="Share of decisions that may lead to a handoff; null: any.", examples=[0.15]
        ),
    ] = None
    price: Annotated[
        float,
        Field(
            ge=0, le=2, description="What capacity adds to the model's thresholds; jobs move it."
        ),
    ] = 0.0
    teams: Annotated[
        tuple[Team, ...], Field(max_length=100, description="Teams with hours, pace or place.")
    ] = ()
    rules: Annotated[
        tuple[Rule, ...],
        Field(max_length=100, description="Rules; the protected ones always escalate."),
    ] = Field(default_factory=default_rules)
    default_team: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            description="Whose work it is where no rule and no model says so.",
        ),
    ] = "support"
    routing: Annotated[Routing, Field(description="What the model may decide of teams.")] = (
        Routing()
    )
    cooldown_messages: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="Messages after a return or a decline in which only protected rules act.",
        ),
    ] = 3
    claim_seconds: Annotated[
        int, Field(ge=10, le=86_400, description="How long a quiet agent keeps a claim.")
    ] = 900
    waiting_seconds: Annotated[
        int,
        Field(
            ge=60, le=604_800, description="How long a handoff waits before it counts as abandoned."
        ),
    ] = 86_400
    audits: Annotated[AuditBudget, Field(description="How kept conversations are reviewed.")] = (
        AuditBudget()
    )
    silence: Annotated[
        SilencePolicy, Field(description="What it means that nobody complained.")
    ] = SilencePolicy()
    questions: Annotated[
        LabelRequestPolicy, Field(description="Answers that an agent is asked for.")
    ] = LabelRequestPolicy()
    bot_outcomes: Annotated[
        BotOutcomes, Field(description="How far the outcomes of bots' keys are trusted.")
    ] = BotOutcomes()
    switching: Annotated[PromotionTerms, Field(description="Terms of promotion and rollback.")] = (
        PromotionTerms()
    )

    @field_validator("rules")
    @classmethod
    def _keeps_protected_rules(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        names = [rule.name for rule in rules]
        missing = [name for name in PROTECTED if name not in names]
        if missing:
            raise ValueError(f"rules must keep {', '.join(missing)}: they always escalate")
        if len(set(names)) != len(names):
            raise ValueError("each rule needs a name of its own")
        by_name = {rule.name: rule for rule in rules}
        for name, watches in PROTECTED_WATCH.items():
            if by_name[name].watches != watches or by_name[name].at_least > 1:
                raise ValueError(f"rule {name} must watch {watches} at_least 1 or less")
        return rules

    @field_validator("teams")
    @classmethod
    def _named_once(cls, teams: tuple[Team, ...]) -> tuple[Team, ...]:
        if len({team.name for team in teams}) != len(teams):
            raise ValueError("each team stands here once, with all its hours")
        return teams

    @property
    def thresholds(self) -> Thresholds:
        """What the model's probability has to reach: where the least expected cost changes from
        one action to the next, and the price of capacity above that, unclipped.
        """
        costs = self.cost_thresholds
        return Thresholds(costs.offer + self.price, costs.escalate + self.price)

    def team(self, name: str) -> Team | None:
        """A team as the policy knows it; None for one that is always there."""
        return next((team for team in self.teams if team.name == name), None)

    @property
    def team_names(self) -> tuple[str, ...]:
        """Every team that it speaks of: a handoff goes to no other."""
        by_rules = [rule.team for rule in self.rules if rule.team is not None]
        return tuple(sorted({self.default_team, *by_rules, *(team.name for team in self.teams)}))

    @property
    def cost_thresholds(self) -> Thresholds:
        """Where the least expected cost changes from one action to the next, capacity aside.

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
    """Decision thresholds on the probability that a person is needed."""

    offer: float
    escalate: float


@dataclass(frozen=True, slots=True)
class Trigger:
    """One cause of a decision (a rule, a loop, the model), and the messages that show it."""

    kind: Literal["request", "rule", "loop", "model"]
    name: str
    message_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reason:
    """An explanation for people: a sentence, and how much it weighed (0 to 1)."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """What is done about a message; `route` says to whom it goes, if it goes to a person."""

    action: Action
    triggers: tuple[Trigger, ...]
    reasons: tuple[Reason, ...]
    route: Route
    thresholds: Thresholds


_LOOPS = frozenset({"repeats", "bot_repeats"})


Suggest = Callable[[], Suggestion | None]


def decide(
    policy: Policy, state: State, probability: float, suggest: Suggest = lambda: None
) -> PolicyDecision:
    """Choose the action for the newest message of `state`, given the calibrated probability.

    `suggest` names the model's team; it is called only where a person may be. Pure.
    """
    thresholds = policy.thresholds
    fired = _fired_rules(policy, state)
    by_model: Action = "continue"
    if probability >= thresholds.escalate:
        by_model = "escalate"
    elif probability >= thresholds.offer:
        by_model = "offer"
    triggers = [_trigger(rule, state) for rule in fired]
    if by_model != "continue":
        triggers.append(Trigger("model", f"model_{by_model}", (state.message_id,)))
    cooldown = in_cooldown(policy, state)
    effective = [rule for rule in fired if not cooldown or rule.name in PROTECTED]
    actions = [rule.action for rule in effective] + ([] if cooldown else [by_model])
    action: Action = "continue"
    if "escalate" in actions:
        action = "escalate"
    elif "offer" in actions:
        action = "offer"
    if action == "continue":
        target = Route(policy.default_team, PRIORITY, "default")
    else:
        target = _choose_route(policy, effective, suggest())
    reasons = list(_reasons(state, fired, probability, by_model, cooldown, thresholds))
    if target.by == "model" and target.suggested is not None:
        text = f"sounds like work for team {target.team} ({target.suggested.probability:.0%})"
        reasons.append(Reason(text, 0.0))
    team = policy.team(target.team)
    away = team.away(state.at) if team is not None and action != "continue" else None
    if action == "escalate" and away and not any(rule.name in PROTECTED for rule in effective):
        action = "offer"
    if away:
        reasons.append(Reason(f"{away}; {_THEN[action]}", 1.0))
    return PolicyDecision(action, tuple(triggers), tuple(reasons), target, thresholds)


def route_for_state(policy: Policy, state: State, suggested: Suggestion | None) -> Route:
    """The route that a handoff at `state` would take, were there one: to test what is suggested."""
    return _choose_route(policy, _fired_rules(policy, state), suggested)


def _choose_route(policy: Policy, rules: Sequence[Rule], suggested: Suggestion | None) -> Route:
    return route(rules, suggested, policy.routing, policy.default_team, policy.teams)


def _fired_rules(policy: Policy, state: State) -> list[Rule]:
    """The rules that the newest message sets off."""
    return [
        rule
        for rule in policy.rules
        if rule.enabled and reading(state, rule.watches) >= rule.at_least
    ]


_THEN = {"offer": "a callback is offered", "escalate": "they take it then"}


def in_cooldown(policy: Policy, state: State) -> bool:
    """Cool-down: a return or a declined offer is so recent that only protected rules act."""
    since = [
        count for count in (state.user_since_return, state.user_since_decline) if count is not None
    ]
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
    cooldown: bool,
    thresholds: Thresholds,
) -> Iterator[Reason]:
    watched = {rule.watches for rule in fired}
    for rule in fired:
        yield Reason(sentence(rule.watches, state), 1.0)
    if by_model != "continue":
        bar = thresholds.escalate if by_model == "escalate" else thresholds.offer
        what = "handing over" if by_model == "escalate" else "an offer"
        text = f"the model gives {probability:.0%}; the bar for {what} is {bar:.0%}"
        yield Reason(text, probability)
        for watches, bar in NOTABLE_READINGS.items():
            if watches not in watched and reading(state, watches) >= bar:
                yield Reason(sentence(watches, state), 0.5)
    if cooldown and (fired or by_model != "continue"):
        yield Reason("held back: a person has just returned or the customer just declined", 0.0)
