"""Parts of a policy without code: costs, acceptance rates, audit budget, silence, redaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from learning.conversation.redaction import Kinds
from learning.decision.policy_document import PolicyDocument


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Decision thresholds on the probability that a person is needed."""

    offer: float
    escalate: float


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


AdviserPrices = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=64)],
        Annotated[float, Field(ge=0, le=1e6)],
    ],
    Field(
        max_length=8,
        description="What one piece of advice costs, by its name, in the unit of `costs`.",
        examples=[{"judge": 0.002}],
    ),
]


PriceOfWaiting = Annotated[
    float,
    Field(
        gt=0,
        le=1,
        description="Share of `missed` that is lost if nothing is done at a message: the price "
        "of waiting; jobs move it.",
    ),
]

HOLDOUT_MAX = 0.05
"""The greatest chance of a conversation to be held out from the model."""

HoldoutChance = Annotated[
    float,
    Field(
        ge=0,
        le=HOLDOUT_MAX,
        description="Chance that in a new conversation rules alone decide, which measures what the "
        "model saves; 0: none.",
    ),
]


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
    disagreement_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of a day's audits kept for conversations on which a challenger "
            "would have decided otherwise.",
        ),
    ] = 0.5
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


class OfferGuard(PolicyDocument):
    """Offers of the model, bounded: a share of messages, with what rules offer, and none before the
    bot has answered.
    """

    share_max: Annotated[
        float, Field(gt=0, le=1, description="Most messages, as a share, at which one is offered.")
    ] = 0.1
    first_message: Annotated[
        bool, Field(description="Whether the model may offer at a customer's first message.")
    ] = False
    when_settled: Annotated[
        bool, Field(description="Whether one is offered to who just said that all is well.")
    ] = False
    floor: Annotated[
        float, Field(ge=0, le=1, description="The least bar of an offer; jobs move it.")
    ] = 0.0


class ResolvedPolicy(PolicyDocument):
    """Weak negative label from a good end: the bot closed the conversation as resolved."""

    weight: Annotated[
        float,
        Field(ge=0, le=1, description="Share of a lesson's weight that a good end teaches with."),
    ] = 0.3


class BotOutcomes(PolicyDocument):
    """How far the outcomes of bots' keys are trusted: they lie in the least protected program."""

    weight: Annotated[
        float, Field(ge=0, le=1, description="What one of them weighs; a person's weighs 1.")
    ] = 0.5
    daily: Annotated[
        int, Field(ge=0, le=100_000, description="So many of a key teach in a day; others wait.")
    ] = 50


class RedactionPolicy(PolicyDocument):
    """Kinds of personal data that are redacted before a message is stored; none at first."""

    kinds: Kinds = ()
    originals: Annotated[
        Literal["none", "sealed", "agents"],
        Field(
            description="Whether the original of a redacted message is kept, encrypted by "
            "BATON_SECRET_KEY: none; sealed, for requests about a person; agents may read it, too."
        ),
    ] = "none"
