"""Routing of handoffs to a team, and their priority: rules first, then the model, then the default.

A rule that names a team wins: of several, the most urgent one. Where none does, the model may name
one, if it is sure enough. Otherwise it is the default team's. The priority is that of the most
urgent rule that fired, named team or not; without one, that of the team.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from learning.decision.policy_document import PolicyDocument
from learning.decision.rules import Rule
from learning.decision.teams.opening_hours import Team

PRIORITY = 3
"""Where neither a rule nor a team says how urgent it is."""


class Routing(PolicyDocument):
    """What the model may decide: a team, if it gives it at least this `confidence`; 1 is never."""

    confidence: Annotated[
        float,
        Field(ge=0, le=1, description="How sure the model must be to name a team; 1 is never."),
    ] = 0.4


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The classifier's most probable team, and its probability."""

    team: str
    probability: float


@dataclass(frozen=True, slots=True)
class Route:
    """Where a handoff goes, and by whose word: `on_call` where an urgent case passes by a team
    that is closed. `suggested` is the model's, heeded or not.
    """

    team: str
    priority: int
    by: Literal["rule", "model", "default", "on_call"]
    rule: str | None = None
    suggested: Suggestion | None = None

    def body(self) -> dict[str, Any]:
        """As plain JSON, for a decision's record."""
        suggestion = self.suggested
        model = (
            None
            if suggestion is None
            else {"team": suggestion.team, "probability": suggestion.probability}
        )
        return {"by": self.by, "rule": self.rule, "suggested": model}


def suggestion_of(body: Mapping[str, Any] | None) -> Suggestion | None:
    """Restore the model's suggestion from a decision's record of its route."""
    suggestion = (body or {}).get("suggested")
    return None if suggestion is None else Suggestion(suggestion["team"], suggestion["probability"])


def route(
    fired: Iterable[Rule],
    suggested: Suggestion | None,
    routing: Routing,
    default_team: str,
    teams: Sequence[Team],
) -> Route:
    """The route of a handoff, by the rules that fired and what the model suggests."""
    ranked = sorted(fired, key=lambda rule: rule.priority)
    naming = next((rule for rule in ranked if rule.team is not None), None)
    by: Literal["rule", "model", "default"] = "default"
    team = default_team
    if naming is not None and naming.team is not None:
        by, team = "rule", naming.team
    elif suggested is not None and suggested.probability >= routing.confidence:
        by, team = "model", suggested.team
    own = next((candidate.priority for candidate in teams if candidate.name == team), None)
    priority = ranked[0].priority if ranked else own or PRIORITY
    return Route(team, priority, by, naming.name if naming is not None else None, suggested)
