"""Response schemas of the quality routes: rates, segments, calibration, annotators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel

from learning.decision.policy import AcceptanceRates, Costs
from service.web.schemas import about


class RateResponse(BaseModel):
    """A rate with its interval; null where there is nothing to divide by."""

    count: Annotated[float, about("How many.", 12)]
    among: Annotated[float, about("Of how many.", 40)]
    rate: Annotated[float | None, about("The share.", 0.3)]
    low: Annotated[float | None, about("Lower end of its 95 % interval.", 0.18)]
    high: Annotated[float | None, about("Upper end of its 95 % interval.", 0.45)]


class MissedRate(RateResponse):
    """The missed escalation rate and what it stands on."""

    kept_conversations: Annotated[int, about("As many as may have been missed.", 400)]
    caught: Annotated[int, about("Misses that somebody caught: a known stratum.", 3)]
    caught_by: Annotated[dict[str, int], about("By how they are known.", {"complaint": 2})]
    audits_answered: Annotated[int, about("Audits answered.", 60)]
    audits_found_missed: Annotated[int, about("Of them, those that found a miss.", 2)]
    audits_pending: Annotated[int, about("Audits that wait.", 5)]
    audits_unknowable: Annotated[int, about("Audits that could not tell.", 1)]
    why: Annotated[str | None, about("Why it is not known.", "no audit is answered yet")]


class ConversationCounts(BaseModel):
    """Conversations by where they stand."""

    all: Annotated[int, about("All.", 500)]
    closed: Annotated[int, about("Those that are over.", 450)]
    escalated: Annotated[int, about("Those that a person ever had.", 50)]
    kept: Annotated[int, about("Those that the bot kept to their end.", 400)]


class MistakeCost(BaseModel):
    """What mistakes cost per conversation that is over."""

    unit: Annotated[Costs, about("The policy's costs.")]
    conversations: Annotated[int, about("Conversations that are over.", 450)]
    per_conversation: Annotated[float | None, about("The cost; null where not known.", 0.12)]
    low: Annotated[float | None, about("Lower end of its interval (at least 90 %).", 0.08)]
    high: Annotated[float | None, about("Upper end of its interval.", 0.2)]


class HandoffOutcomes(BaseModel):
    """What was found of handoffs; pending and unknowable ones divide nothing."""

    needed: Annotated[int, about("A person was needed.", 30)]
    not_needed: Annotated[int, about("Nobody was.", 10)]
    unknowable: Annotated[int, about("Nobody can tell.", 2)]
    pending: Annotated[int, about("Not judged yet.", 8)]
    false_escalation_rate: Annotated[RateResponse, about("Of those judged, the unneeded share.")]
    false_escalation_rate_of_all: Annotated[
        RateResponse,
        about("Of all: where some are pending, by those drawn at random to be asked about."),
    ]


class SegmentRates(HandoffOutcomes):
    """The rates of a segment of the traffic."""

    conversations: Annotated[ConversationCounts, about("Its conversations.")]
    automation_rate: Annotated[RateResponse, about("Of those over, the share the bot kept.")]
    missed: Annotated[MissedRate, about("Of those kept, the share that needed a person.")]
    cost: Annotated[MistakeCost, about("What mistakes cost.")]
    unknown: Annotated[
        dict[str, str],
        about("Why figures are not known, by name.", {"cost": "none of these is over yet"}),
    ]


class SegmentPoint(SegmentRates):
    """The rates of the conversations that began in a span of time."""

    at: Annotated[datetime, about("When the span begins.", "2026-11-28T09:00:00+00:00")]


class OverTime(BaseModel):
    """The rates by the time in which conversations began."""

    span_seconds: Annotated[float, about("Length of a span.", 3600)]
    points: Annotated[list[SegmentPoint], about("The oldest first, at most 40.")]


class AuditCounts(BaseModel):
    """How far kept conversations are audited."""

    conversations_tossed: Annotated[int, about("Conversations that were looked at.", 400)]
    out_of_reach: Annotated[
        int, about("Those without any chance to be drawn: the day's audits were spent.", 0)
    ]
    warning: Annotated[
        str | None,
        about(
            "What is hidden where more than 5 % are out of reach; null: nothing is.",
            "500 of 4000 kept conversations had no chance to be drawn",
        ),
    ]
    drawn_uniformly: Annotated[int, about("Drawn at random.", 12)]
    drawn_for_learning: Annotated[int, about("Drawn where a label teaches most.", 8)]
    double_reviewed: Annotated[int, about("Reviewed by two.", 2)]
    kappa: Annotated[float | None, about("Cohen's kappa of two reviewers; null: unknown.", 0.8)]


class OutcomesByCause(BaseModel):
    """Outcomes of handoffs by what led to them: a decision, or the word of a bot or a person."""

    rule: Annotated[HandoffOutcomes, about("By a rule or a request.")]
    model: Annotated[HandoffOutcomes, about("By the model alone.")]
    bot: Annotated[HandoffOutcomes, about("By the bot itself, without a decision.")]
    person: Annotated[HandoffOutcomes, about("By a person who took over, without a decision.")]


class HandoffCounts(BaseModel):
    """Handoffs by status, outcome and cause."""

    by_status: Annotated[dict[str, int], about("By status.", {"waiting": 2, "resolved": 48})]
    outcomes: Annotated[HandoffOutcomes, about("By outcome.")]
    by_cause: Annotated[OutcomesByCause, about("By cause.")]


class Estimate(BaseModel):
    """An estimate with its 95 % interval."""

    value: Annotated[float | None, about("The estimate; null where nothing is known.", 0.85)]
    low: Annotated[float, about("Lower end.", 0.7)]
    high: Annotated[float, about("Upper end.", 0.95)]


class InferredLabelReport(BaseModel):
    """A kind of label that is inferred from events, and how far it may be believed."""

    kind: Annotated[str, about("returned, stepped_in, rated_low or rated_high.", "returned")]
    source: Annotated[str, about("observed or rated.", "observed")]
    means: Annotated[str, about("What happened.", "given back without a public word of a person")]
    inferred: Annotated[int, about("How often.", 120)]
    pairs: Annotated[int, about("Of those, how many somebody stated something of.", 41)]
    agreement: Annotated[RateResponse, about("The share of pairs in which both say the same.")]
    label: Annotated[
        float | None, about("The label of its lessons; null while it teaches nothing.", 0.12)
    ]
    taught: Annotated[int, about("How many have taught.", 60)]


class AcceptanceReport(BaseModel):
    """Who accepts an offered person, beside the policy's shares."""

    accepted: Annotated[int, about("Conversations that accepted.", 40)]
    declined: Annotated[int, about("Those that declined.", 20)]
    needed: Annotated[Estimate, about("Of those who needed one, the share that accepts.")]
    unneeded: Annotated[Estimate, about("Of those who did not, the share that accepts.")]
    in_force: Annotated[AcceptanceRates, about("The policy's shares.")]
    proposed: Annotated[
        dict[str, float] | None, about("Shares to set instead.", {"needed": 0.85, "unneeded": 0.2})
    ]
    why_none: Annotated[str | None, about("Why nothing is proposed.", "too few answers")]


class RuleReport(BaseModel):
    """How right a rule is."""

    action: Annotated[str, about("What it asks for.", "escalate")]
    enabled: Annotated[bool, about("Whether it is on.", True)]
    fired: Annotated[int, about("Judged conversations in which it fired.", 12)]
    precision: Annotated[RateResponse, about("Of them, the share that needed a person.")]
    coverage: Annotated[RateResponse, about("Of those that needed one, the share it found.")]


class RuleSuggestion(BaseModel):
    """A change of the rules that evidence speaks for; never applied by itself."""

    kind: Annotated[str, about("retire, narrow or add.", "add")]
    rule: Annotated[str, about("The rule.", "says_chargeback")]
    watches: Annotated[str | None, about("What an added one watches.", "says:chargeback")]
    sentence: Annotated[str, about("In words.", "'chargeback' needed a person 12 times of 12")]
    evidence: Annotated[RateResponse, about("The evidence.")]
    conversations: Annotated[int, about("Of how many conversations.", 12)]


class DecisionCount(BaseModel):
    """Decisions of a version by action."""

    version: Annotated[int, about("The version.", 3)]
    action: Annotated[str, about("The action.", "offer")]
    total: Annotated[int, about("How many.", 40)]


class Calibration(BaseModel):
    """Predicted against observed, by bins of equal mass, the lowest first."""

    predicted: Annotated[list[float], about("Mean probability of each bin.", [0.05, 0.4])]
    observed: Annotated[list[float], about("Mean label of each bin.", [0.04, 0.45])]
    mass: Annotated[list[float], about("Weight of each bin.", [30.0, 30.0])]


class ModelQuality(BaseModel):
    """The serving model's own test-then-learn measures."""

    version: Annotated[int, about("Its version.", 3)]
    recipe: Annotated[str, about("Its recipe.", "mixture-5")]
    position: Annotated[int, about("The ledger position it has learned up to.", 202)]
    lessons: Annotated[int, about("Lessons it has learned.", 640)]
    window: Annotated[
        dict[str, float], about("Measures of its newest lessons.", {"n": 500, "log_loss": 0.31})
    ]
    reliability: Annotated[Calibration, about("Its calibration.")]


class RoutingQuality(BaseModel):
    """How often each way of naming a team was right."""

    tested: Annotated[int, about("Lessons in which the team is known.", 80)]
    route: Annotated[RateResponse, about("Rules, model and default team together.")]
    model: Annotated[RateResponse, about("The model's first choice.")]
    rules: Annotated[RateResponse, about("Rules and default team alone.")]
    frequent: Annotated[RateResponse, about("Always the most frequent team.")]
    by_team: Annotated[dict[str, RateResponse], about("By the true team.")]
    confidence: Annotated[float, about("How sure the model must be (the policy's).", 0.4)]
    learned: Annotated[dict[str, int], about("Lessons of each team.", {"billing": 40})]


class AdviserWorth(BaseModel):
    """What an adviser is worth: judged messages that it spoke of, decided with it and without."""

    share: Annotated[float, about("Its share of the log odds.", 0.31)]
    price: Annotated[float | None, about("What one piece of advice costs, by the policy.", 0.002)]
    messages: Annotated[int, about("Judged messages that it spoke of.", 210)]
    conversations: Annotated[int, about("Their conversations.", 80)]
    cost: Annotated[float | None, about("What a message costs with it.", 0.11)]
    cost_without: Annotated[float | None, about("What it would cost without.", 0.14)]
    saves: Annotated[float | None, about("What it saves a message, its price not counted.", 0.03)]
    low: Annotated[float | None, about("Lower end of the 95 % interval.", 0.01)]
    high: Annotated[float | None, about("Upper end of the 95 % interval.", 0.05)]


class LanguageCounts(BaseModel):
    """Conversations by what is recognised in their language."""

    all: Annotated[int, about("In languages in which everything is recognised.", 940)]
    requests: Annotated[
        int, about("In languages in which only requests for a person are: no danger.", 25)
    ]
    none: Annotated[int, about("In languages in which nothing is recognised.", 4)]
    unknown: Annotated[int, about("Those that showed no language.", 31)]
    not_covered: Annotated[
        dict[str, int], about("Those in which nothing is recognised, by language.", {"sw": 4})
    ]


class RulesOnlyCost(BaseModel):
    """What rules alone would cost, by the last evaluation; each figure with its 95 % interval for
    one look.
    """

    source: Annotated[
        Literal["bounds", "judged", "holdout"],
        about(
            "bounds: from what the model decided, whose handoffs cut conversations off; judged: "
            "from the same, where none was cut off; holdout: from conversations, drawn by lot, in "
            "which rules alone decided.",
            "holdout",
        ),
    ]
    held_out: Annotated[int | None, about("How many were held out; null: of another source.", 410)]
    conversations: Annotated[int, about("The judged ones of which it is told.", 120)]
    cost_per_conversation: Annotated[
        list[float] | None,
        about("Estimate, lower and upper end; null: not known.", [0.31, 0.24, 0.38]),
    ]
    more_than_champion: Annotated[
        list[float] | None,
        about("What they cost more than the model's decisions would.", [0.08, 0.02, 0.14]),
    ]
    escalated: Annotated[list[float] | None, about("The share handed over.", [0.12, 0.1, 0.14])]


class QualityReport(BaseModel):
    """How well automation and hand-over do, with honest denominators."""

    counted_at: Annotated[datetime, about("When it was counted.", "2026-11-28T09:30:00+00:00")]
    conversations: Annotated[ConversationCounts, about("All conversations.")]
    automation_rate: Annotated[RateResponse, about("Of those over, the share the bot kept.")]
    missed: Annotated[MissedRate, about("Of those kept, the share that needed a person.")]
    cost: Annotated[MistakeCost, about("What mistakes cost.")]
    unknown: Annotated[
        dict[str, str],
        about("Why figures are not known, by name.", {"missed": "no audit is answered yet"}),
    ]
    audits: Annotated[AuditCounts, about("Audits.")]
    handoffs: Annotated[HandoffCounts, about("Handoffs.")]
    by_rule: Annotated[dict[str, SegmentRates], about("By what fired in a conversation.")]
    by_team: Annotated[dict[str, SegmentRates], about("By team.")]
    by_language: Annotated[dict[str, SegmentRates], about("By the first message's language.")]
    by_version: Annotated[dict[str, SegmentRates], about("By model version.")]
    languages: Annotated[LanguageCounts, about("By what is recognised in their language.")]
    over_time: Annotated[OverTime, about("By when conversations began.")]
    accepting: Annotated[AcceptanceReport, about("Who accepts an offer.")]
    rules: Annotated[dict[str, RuleReport], about("How right each rule is.")]
    suggestions: Annotated[list[RuleSuggestion], about("Changes that evidence speaks for.")]
    inferred: Annotated[
        list[InferredLabelReport], about("What events suggest, beside what people stated.")
    ]
    rules_only: Annotated[
        list[RulesOnlyCost], about("What rules alone would cost, by source; empty at first.")
    ]
    drift: Annotated[
        dict[str, Any] | None,
        about("What the last evaluation found of drift; null before the first.", {"alarms": []}),
    ]
    decisions: Annotated[list[DecisionCount], about("Decisions by version and action.")]
    model: Annotated[ModelQuality, about("The serving model.")]
    routing: Annotated[RoutingQuality, about("How well teams are named.")]
    advice: Annotated[dict[str, AdviserWorth], about("What each adviser is worth, by name.")]


class ShareInterval(BaseModel):
    """A share with its 95 % interval."""

    rate: Annotated[float | None, about("The share.", 0.62)]
    low: Annotated[float | None, about("Lower end.", 0.5)]
    high: Annotated[float | None, about("Upper end.", 0.73)]


class DoubleReviews(BaseModel):
    """Agreement with others who reviewed the same conversations."""

    both: Annotated[int, about("Reviewed by both.", 8)]
    agreed: Annotated[int, about("Same verdict.", 7)]
    kappa: Annotated[float | None, about("Cohen's kappa.", 0.7)]


class AnnotatorSpeed(BaseModel):
    """How quickly an agent answers."""

    others_usual_seconds: Annotated[float | None, about("What others usually take.", 95.0)]
    much_quicker: Annotated[int, about("Answers much sooner than that.", 1)]
    of: Annotated[int, about("Answers that were timed.", 40)]


class Suspicion(BaseModel):
    """Evidence that an agent's labels cannot be trusted, and how to undo the harm."""

    sentence: Annotated[str, about("In words.", "mallory finds a person needed nearly always")]
    behaviour: Annotated[str, about("Of which kind.", "needed")]
    since_position: Annotated[int, about("The ledger position since which.", 180)]
    commands: Annotated[
        dict[str, str], about("Commands that undo it.", {"repair": "baton rollback ..."})
    ]
    position: Annotated[int, about("The ledger position at which it was found.", 240)]
    after_verdicts: Annotated[int, about("After how many verdicts.", 30)]


class AnnotatorQuality(BaseModel):
    """An agent's labels: agreement, drift, speed."""

    agent: Annotated[str, about("The agent.", "dana")]
    verdicts: Annotated[int, about("Verdicts that can be compared.", 40)]
    unknowable: Annotated[int, about("Verdicts that could not tell.", 2)]
    told_unasked: Annotated[int, about("Misses told by themselves.", 3)]
    corrected_by_others: Annotated[int, about("Verdicts that others corrected.", 1)]
    needed: Annotated[ShareInterval | None, about("The share found needed.")]
    expected: Annotated[float | None, about("What others and the model expect of it.", 0.58)]
    beyond_expected: Annotated[float | None, about("The difference.", 0.04)]
    beyond_expected_recently: Annotated[float | None, about("The difference of late.", 0.02)]
    double_reviews: Annotated[DoubleReviews, about("Agreement with others.")]
    speed: Annotated[AnnotatorSpeed, about("How quickly they answer.")]
    evidence: Annotated[float, about("Evidence against trust (a test martingale).", 1.4)]
    bar: Annotated[float, about("The evidence from which on they are suspected.", 1000.0)]
    suspected: Annotated[Suspicion | None, about("The suspicion, if there is one.")]
    left_out: Annotated[bool, about("Whether the serving line leaves them out.", False)]


class AnnotatorReport(BaseModel):
    """Whose labels can be trusted, the most suspicious first."""

    agents: Annotated[list[AnnotatorQuality], about("Each agent.")]
    position: Annotated[int, about("The ledger position that was looked at.", 202)]
    beyond: Annotated[int, about("Agents beyond those that are followed.", 0)]
    usual_seconds: Annotated[
        dict[str, float | None], about("Usual time of an answer.", {"handoff": 95.0})
    ]
    why: Annotated[str | None, about("Why there is nobody.", "no agent has given a verdict")]
