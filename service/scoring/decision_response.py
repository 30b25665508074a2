"""Response of a scored message: its one description (types, words, examples) and its making.

`/v1/score` answers with it, and the OpenAPI description is derived from these types.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from learning.decision.policy import Policy
from learning.decision.words.words_to_show import Kind
from service.handoffs.lifecycle import estimated_start
from service.store.conversations.batch import Batch, OpenConversation
from service.store.handoffs import handoff_rows


def _about(description: str, example: Any) -> Any:
    return Field(description=description, examples=[example])


class ThresholdsResponse(TypedDict):
    """What the probability has to reach, from the policy's costs and the price of capacity."""

    offer: Annotated[float, _about("From here on a person is offered.", 0.1)]
    escalate: Annotated[float, _about("From here on a person is called.", 0.5)]


class TriggerResponse(TypedDict):
    """What spoke for a person: an explicit request, a rule, a loop, or the model."""

    kind: Annotated[
        Literal["request", "rule", "loop", "model"], _about("What kind of thing it is.", "request")
    ]
    name: Annotated[str, _about("The rule's name, or the model's action.", "request")]
    message_ids: Annotated[list[str], _about("The messages that show it.", ["m-3"])]


class ReasonResponse(TypedDict):
    """A reason in words, and what they were made of."""

    code: NotRequired[Annotated[str, _about("What kind of reason it is.", "request")]]
    params: NotRequired[
        Annotated[dict[str, Any], _about("What the sentence was made of.", {"quote": "a person"})]
    ]
    text: Annotated[str, _about("A sentence for people.", "the customer asked for a person")]
    weight: Annotated[float, _about("How much it weighed, from 0 to 1.", 1.0)]


class HandoffSummary(TypedDict):
    """The conversation's open handoff; `promised_at` stands only where nobody is there before."""

    id: Annotated[str, _about("The handoff's id.", "h19ab2c3d4e5f60718293a4")]
    team: Annotated[str, _about("The team it waits for.", "support")]
    priority: Annotated[int, _about("1 is served first, 4 last.", 2)]
    raised: NotRequired[Annotated[bool, _about("This message was urgent, and raised it.", False)]]
    promised_at: NotRequired[
        Annotated[str, _about("When the team gets to it.", "2026-11-30T08:00:00+00:00")]
    ]


class WordsResponse(TypedDict):
    """Words that the bot may show."""

    kind: Annotated[
        Literal["crisis", "offer", "callback"],
        _about("A person is in danger, is offered one, or will be called back.", "offer"),
    ]
    text: Annotated[
        str,
        _about(
            "The words, from the policy, in the customer's language.",
            "Would you like me to connect you with a colleague?",
        ),
    ]
    promised_at: NotRequired[
        Annotated[
            str, _about("When the team gets to it, for a callback.", "2026-11-30T08:00:00+00:00")
        ]
    ]


class LanguageResponse(TypedDict):
    """The language of a message, and what is recognised in it."""

    code: Annotated[
        str | None, _about("Declared, or recognised by its script or everyday words.", "en")
    ]
    covered: Annotated[
        bool | None,
        _about("Whether requests for a person are recognised in it; null: not known.", True),
    ]
    signals: Annotated[
        Literal["all", "requests", "none"] | None,
        _about("What is recognised: all, only requests for a person, or none.", "all"),
    ]


class DecisionResponse(TypedDict):
    """The decision about a message."""

    decision_id: Annotated[str, _about("The decision's id.", "d19ab2c3d4e5f60718293a4")]
    action: Annotated[
        Literal["continue", "offer", "escalate", "human_active"],
        _about(
            "What the bot does now: go on, offer a person, hand over, or be silent because a "
            "person has the conversation.",
            "escalate",
        ),
    ]
    probability: Annotated[
        float | None,
        _about("That a person is needed, calibrated; null while a person has it.", 0.81),
    ]
    uncertainty: Annotated[float | None, _about("Variance of the probability's log odds.", 0.04)]
    thresholds: Annotated[ThresholdsResponse, Field(description="What the probability is held to.")]
    triggers: Annotated[
        list[TriggerResponse], Field(description="What spoke for a person, rules and model apart.")
    ]
    reasons: Annotated[list[ReasonResponse], Field(description="Why, in words.")]
    handoff: Annotated[
        HandoffSummary | None, Field(description="The open handoff, if there is one.")
    ]
    say: Annotated[
        WordsResponse | None, Field(description="Words that the bot may show, where there are any.")
    ]
    language: Annotated[
        LanguageResponse | None, Field(description="The customer's language, and its coverage.")
    ]
    held_out: Annotated[
        bool, _about("Drawn by lot: in this conversation rules alone decide (holdout).", False)
    ]
    reopened: Annotated[bool, _about("The conversation was closed: this opened it again.", False)]
    version: Annotated[int, _about("The model version that decided.", 3)]
    position: Annotated[int, _about("The ledger position that it had learned up to.", 202)]


def decision_response(decision: Mapping[str, Any]) -> DecisionResponse:
    """A stored decision as the bot receives it; the same row always gives the same answer."""
    return {
        "decision_id": decision["id"],
        "action": decision["action"],
        "probability": decision["probability"],
        "uncertainty": decision["uncertainty"],
        "thresholds": {
            "offer": decision["offer_threshold"],
            "escalate": decision["escalate_threshold"],
        },
        "triggers": decision["triggers"],
        "reasons": decision["reasons"],
        "handoff": decision["handoff"],
        "say": decision["say"],
        "language": decision["language"],
        "held_out": decision["held_out"],
        "reopened": decision["reopened"],
        "version": decision["version"],
        "position": decision["position"],
    }


def bot_words(
    batch: Batch, conversation: OpenConversation, decision: Mapping[str, Any], policy: Policy
) -> dict[str, Any] | None:
    """The words of a decision, in the customer's language as far as it is known; None where the bot
    speaks for itself, or a person is there to speak.
    """
    kind: Kind
    promised = (decision["handoff"] or {}).get("promised_at")
    action = decision["action"]
    if any(trigger["name"] == "safety" for trigger in decision["triggers"]):
        if _is_claimed(batch, conversation):
            return None
        kind, promised = "crisis", None
    elif action == "offer":
        at = estimated_start(
            batch.connection,
            conversation.workspace,
            decision["team"],
            policy,
            conversation.state.at,
        )
        promised = None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
        kind = "offer" if promised is None else "callback"
    elif action == "escalate" and promised is not None:
        kind = "callback"
    else:
        return None
    language = conversation.state.language or decision["language"]["code"]
    words = {"kind": kind, "text": policy.say.text(kind, language)}
    return words | ({} if promised is None else {"promised_at": promised})


def _is_claimed(batch: Batch, conversation: OpenConversation) -> bool:
    if conversation.handoff_id is None:
        return False
    row = handoff_rows.handoff(batch.connection, conversation.workspace, conversation.handoff_id)
    return row is not None and row.status == "claimed"
