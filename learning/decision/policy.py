"""Decision policy: rules first, then the action of least expected cost (cost-sensitive decision).

The model says how probable it is that a person is needed; the policy says what follows from
that. It is a value, stored in the ledger, and `decide` is a pure function of policy, state and
score, so any past decision can be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from learning.conversation.state import State
from learning.decision.label_requests import LabelRequestPolicy
from learning.decision.policy_document import PolicyDocument
from learning.decision.policy_parts import (
    AcceptanceRates,
    AdviserPrices,
    AuditBudget,
    BotOutcomes,
    Costs,
    HoldoutChance,
    OfferGuard,
    PriceOfWaiting,
    RedactionPolicy,
    ResolvedPolicy,
    SilencePolicy,
    Thresholds,
)
from learning.decision.promotion_terms import PromotionTerms
from learning.decision.rules import (
    NOTABLE_READINGS,
    PROTECTED,
    PROTECTED_WATCH,
    SETTLED,
    UNANSWERED,
    URGENT,
    WITHOUT_COOLDOWN,
    Reason,
    Rule,
    cooldown_cause,
    default_rules,
    is_settled,
    reading,
    reading_reason,
    with_protected_rules,
)
from learning.decision.teams.opening_hours import Team
from learning.decision.teams.routing import PRIORITY, Route, Routing, Suggestion, route
from learning.decision.words.own_phrases import PHRASES_MAX, Phrase
from learning.decision.words.words_to_show import WordsToShow

__all__ = [
    "PROTECTED",
    "AcceptanceRates",
    "AuditBudget",
    "BotOutcomes",
    "Costs",
    "Policy",
    "Rule",
    "SilencePolicy",
    "Team",
    "Thresholds",
    "decide",
    "default_rules",
    "reading",
]

Action = Literal["continue", "offer", "escalate"]


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
    lost: PriceOfWaiting = 1.0
    offers: Annotated[OfferGuard, Field(description="How often the model may offer a person.")] = (
        OfferGuard()
    )
    holdout: HoldoutChance = 0.0
    resolved: Annotated[
        ResolvedPolicy, Field(description="What it means that the bot resolved a conversation.")
    ] = ResolvedPolicy()
    teams: Annotated[
        tuple[Team, ...], Field(max_length=100, description="Teams with hours, pace or place.")
    ] = ()
    rules: Annotated[
        tuple[Rule, ...],
        Field(max_length=100, description="Rules; the protected ones always escalate."),
    ] = Field(default_factory=default_rules)
    shareable: Annotated[
        bool, Field(description="Whether other workspaces may start from this one's model.")
    ] = False
    advisers: AdviserPrices = Field(default_factory=dict)
    default_team: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            description="Whose work it is where no rule and no model says so.",
        ),
    ] = "support"
    on_call_team: Annotated[
        Annotated[str, Field(min_length=1, max_length=64)] | None,
        Field(
            description="Whose work urgent cases (safety, security) of a closed team are, at once; "
            "null: the default team's.",
            examples=["on_call"],
        ),
    ] = None
    phrases: Annotated[
        tuple[Phrase, ...],
        Field(max_length=PHRASES_MAX, description="The workspace's own, beside the lexicon."),
    ] = ()
    say: Annotated[WordsToShow, Field(description="Words for the bot to show.")] = WordsToShow()
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
    cooldown_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=31_536_000,
            description="Time after a return or a decline that ends the cool-down, however few "
            "messages came.",
        ),
    ] = 3600
    claim_seconds: Annotated[
        int, Field(ge=10, le=86_400, description="How long a quiet agent keeps a claim.")
    ] = 900
    waiting_seconds: Annotated[
        int,
        Field(
            ge=60,
            le=604_800,
            description="How long a handoff waits before it counts as unanswered.",
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
    redaction: Annotated[
        RedactionPolicy, Field(description="Personal data that is never stored.")
    ] = RedactionPolicy()

    @classmethod
    def from_ledger(cls, body: Mapping[str, Any]) -> Policy:
        """A policy as the ledger has it, read leniently: whatever build wrote it, unknown fields
        are ignored, and protected rules that it lacks are added.
        """
        if "rules" in body:
            body = {**body, "rules": with_protected_rules(body["rules"])}
        if "offers" in body:  # those of before decide as they did
            body = {**body, "offers": {"when_settled": True, **body["offers"]}}
        return cls.model_validate(body, extra="ignore")

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
        offer = min(max(costs.offer, self.offers.floor), costs.escalate)
        return Thresholds(offer + self.price, costs.escalate + self.price)

    def with_moves_of(self, other: Policy) -> Policy:
        """This policy with the values that `jobs` move, as they stand in another."""
        offers = self.offers.model_copy(update={"floor": other.offers.floor})
        return self.model_copy(update={"price": other.price, "lost": other.lost, "offers": offers})

    def team(self, name: str) -> Team | None:
        """A team as the policy knows it; None for one that is always there."""
        return next((team for team in self.teams if team.name == name), None)

    @property
    def team_names(self) -> tuple[str, ...]:
        """Every team that it speaks of: a handoff goes to no other."""
        by_rules = [rule.team for rule in self.rules if rule.team is not None]
        own = [self.default_team, self.urgent_team, *(team.name for team in self.teams)]
        return tuple(sorted({*own, *by_rules}))

    @property
    def urgent_team(self) -> str:
        """Who takes the urgent cases of a closed team."""
        return self.on_call_team or self.default_team

    @property
    def cost_thresholds(self) -> Thresholds:
        """Where the least expected cost changes from one action to the next, capacity aside.

        With q the probability that a person is needed and m = lost*missed what waiting costs then
        (the conversation mostly goes on), continuing costs q*m, escalating (1-q)*unneeded, and
        offering ask + q*(1-a1)*m + (1-q)*a0*unneeded. Where offering is never the cheapest, both
        thresholds are the one between continuing and escalating.
        """
        c, a = self.costs, self.accepting
        missed = self.lost * c.missed
        plain = c.unneeded / (c.unneeded + missed)
        gain = a.needed * missed + a.unneeded * c.unneeded
        offer = (c.ask + a.unneeded * c.unneeded) / gain if gain else 1.0
        risk = (1 - a.needed) * missed + (1 - a.unneeded) * c.unneeded
        escalate = ((1 - a.unneeded) * c.unneeded - c.ask) / risk if risk else 0.0
        if offer >= escalate:
            return Thresholds(plain, plain)
        return Thresholds(offer, escalate)


@dataclass(frozen=True, slots=True)
class Trigger:
    """One cause of a decision (a rule, a loop, the model), and the messages that show it."""

    kind: Literal["request", "rule", "loop", "model"]
    name: str
    message_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """What is done about a message; `route` says to whom it goes, if it goes to a person."""

    action: Action
    triggers: tuple[Trigger, ...]
    reasons: tuple[Reason, ...]
    route: Route
    thresholds: Thresholds


_LOOPS = frozenset({"repeats", "short_repeats", "bot_repeats"})


Suggest = Callable[[], Suggestion | None]
Causes = Callable[[], Sequence[str]]


def decide(
    policy: Policy,
    state: State,
    probability: float,
    suggest: Suggest = lambda: None,
    causes: Causes = lambda: (),
    *,
    held_out: bool = False,
) -> PolicyDecision:
    """Choose the action for the newest message of `state`, given the calibrated probability.

    `suggest` names the model's team, and `causes` what moved the model; they are called only where
    a person may be. In a conversation that is `held_out` rules alone decide. Pure.
    """
    thresholds = policy.thresholds
    fired = _fired_rules(policy, state)
    by_model: Action = "continue"
    if probability >= thresholds.escalate:
        by_model = "escalate"
    elif probability >= thresholds.offer and _may_offer(policy, state):
        by_model = "offer"
    triggers = [_trigger(rule, state) for rule in fired]
    if by_model != "continue":
        triggers.append(Trigger("model", f"model_{by_model}", (state.message_id,)))
    cooldown = in_cooldown(policy, state)
    settled = not policy.offers.when_settled and is_settled(state)
    effective = [rule for rule in fired if not cooldown or rule.name in WITHOUT_COOLDOWN]
    if settled:
        effective = [rule for rule in effective if rule.action != "offer" or rule == UNANSWERED]
    action = _strongest(effective, "continue" if cooldown or settled or held_out else by_model)
    if action == "continue":
        target = Route(policy.default_team, PRIORITY, "default")
    else:
        target = _choose_route(policy, effective, suggest())
    reasons = list(_rule_reasons(state, fired))
    if by_model != "continue":
        reasons += _model_reasons(state, fired, probability, by_model, thresholds, causes())
    if action != _strongest(fired, by_model):
        cause, text = cooldown_cause(state) if cooldown else SETTLED if settled else _HOLDOUT_CAUSE
        reasons.append(Reason(f"held back: {text}", 0.0, "held_back", {"cause": cause}))
    if target.by == "model" and target.suggested is not None:
        text = f"sounds like work for team {target.team} ({target.suggested.probability:.0%})"
        suggested = {"team": target.team, "probability": target.suggested.probability}
        reasons.append(Reason(text, 0.0, "team_suggested", suggested))
    if action != "continue":
        action, target, absence = _by_opening_hours(policy, state, action, target, effective)
        reasons += absence
    return PolicyDecision(action, tuple(triggers), tuple(reasons), target, thresholds)


def _by_opening_hours(
    policy: Policy, state: State, action: Action, target: Route, rules: Sequence[Rule]
) -> tuple[Action, Route, list[Reason]]:
    """What becomes of a handoff whose team is not there: urgent cases pass by it, protected ones
    wait for it, and for the others a callback is offered.
    """
    team = policy.team(target.team)
    away = None if team is None else team.away(state.at)
    if not away:
        return action, target, []
    names = {rule.name for rule in rules}
    if not names.isdisjoint(URGENT):
        target = replace(target, team=policy.urgent_team, by="on_call")
        params = {"away": away, "team": target.team}
        text = f"{away}; team {target.team} takes it at once"
        return action, target, [Reason(text, 1.0, "on_call", params)]
    if action == "escalate" and names.isdisjoint(PROTECTED):
        action = "offer"
    params = {"away": away, "team": target.team, "action": action}
    return action, target, [Reason(f"{away}; {_THEN[action]}", 1.0, "team_away", params)]


def _strongest(rules: Sequence[Rule], by_model: Action) -> Action:
    """The strongest of what rules and model ask for."""
    actions = {by_model, *(rule.action for rule in rules)}
    return "escalate" if "escalate" in actions else "offer" if "offer" in actions else "continue"


def route_for_state(policy: Policy, state: State, suggested: Suggestion | None) -> Route:
    """The route that a handoff at `state` would take, were there one: to test what is suggested."""
    return _choose_route(policy, _fired_rules(policy, state), suggested)


def _choose_route(policy: Policy, rules: Sequence[Rule], suggested: Suggestion | None) -> Route:
    return route(rules, suggested, policy.routing, policy.default_team, policy.teams)


def _fired_rules(policy: Policy, state: State) -> list[Rule]:
    """The rules that the newest message sets off."""
    return [
        rule
        for rule in (*policy.rules, UNANSWERED)
        if rule.enabled and reading(state, rule.watches) >= rule.at_least
    ]


def is_protected(policy: Policy, state: State) -> bool:
    """Whether the newest message sets off a rule that always escalates."""
    return any(rule.name in PROTECTED for rule in _fired_rules(policy, state))


def urgent_rules(policy: Policy, state: State) -> list[Rule]:
    """The rules of the newest message that raise a handoff which is open, most urgent first."""
    urgent = [rule for rule in _fired_rules(policy, state) if rule.name in URGENT]
    return sorted(urgent, key=lambda rule: rule.priority)


@dataclass(frozen=True, slots=True)
class UrgentCase:
    """What an urgent message of a conversation that a person has, or waits for, asks for."""

    triggers: tuple[Trigger, ...]
    reasons: tuple[Reason, ...]
    route: Route


def urgent_case(policy: Policy, state: State) -> UrgentCase | None:
    """Whether the newest message is urgent, and where its handoff then belongs. Pure."""
    rules = urgent_rules(policy, state)
    if not rules:
        return None
    target = _choose_route(policy, rules, None)
    team = policy.team(target.team)
    if team is not None and team.away(state.at):
        target = replace(target, team=policy.urgent_team, by="on_call")
    return UrgentCase(
        tuple(_trigger(rule, state) for rule in rules),
        tuple(_rule_reasons(state, rules)),
        target,
    )


_THEN = {"offer": "a callback is offered", "escalate": "they take it then"}


def _may_offer(policy: Policy, state: State) -> bool:
    """Whether the model may offer: not before the bot has said a word, unless the policy says."""
    return policy.offers.first_message or state.user.turns != 1 or state.author != "user"


def in_cooldown(policy: Policy, state: State) -> bool:
    """Cool-down: a return or an offer that was not taken is so recent, by messages and by time,
    that only some rules act.
    """
    since = (
        (state.user_since_return, state.returned_at),
        (state.user_since_decline, state.declined_at),
    )
    return any(
        count is not None
        and count <= policy.cooldown_messages
        and state.at - at <= policy.cooldown_seconds
        for count, at in since
    )


def _trigger(rule: Rule, state: State) -> Trigger:
    if rule.watches == "request":
        return Trigger("request", rule.name, (state.message_id,))
    evidence = {
        "repeats": state.repeat_ids,
        "bot_repeats": state.bot_repeat_ids,
        "failures": state.failure_ids,
    }.get(rule.watches) or (state.message_id,)
    return Trigger("loop" if rule.watches in _LOOPS else "rule", rule.name, tuple(evidence))


def _rule_reasons(state: State, fired: Sequence[Rule]) -> Iterator[Reason]:
    return (reading_reason(rule.watches, state, 1.0) for rule in fired)


def _model_reasons(
    state: State,
    fired: Sequence[Rule],
    probability: float,
    by_model: Action,
    thresholds: Thresholds,
    causes: Sequence[str],
) -> Iterator[Reason]:
    """What the model says, with its causes, and what is worth a sentence beside it."""
    escalates = by_model == "escalate"
    bar = thresholds.escalate if escalates else thresholds.offer
    what = "looks like: " + ", ".join(causes) if causes else "cases like this often need a person"
    begin = "handing over starts" if escalates else "offers start"
    yield Reason(
        f"{what} ({probability:.0%}, {begin} at {bar:.0%})",
        probability,
        f"model_{by_model}",
        {"causes": list(causes), "probability": probability, "bar": bar},
    )
    watched = {rule.watches for rule in fired}
    for watches, least in NOTABLE_READINGS.items():
        if watches not in watched and reading(state, watches) >= least:
            yield reading_reason(watches, state, 0.5)


_HOLDOUT_CAUSE = ("holdout", "rules alone decide here, drawn by lot to measure the model")
