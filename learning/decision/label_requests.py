"""Active learning: the value of a label, so that agents are asked for the most telling ones.

    value = doubt * (1 + s2 / (1 + s2)) / 2 + disagreement / 2,  doubt = 4 p (1 - p)

p is the probability at the decision and s2 the model's uncertainty about it (variance of the log
odds). `doubt` is largest at one half, where a label says most about the case; s2 says how little
the model has seen of its kind, so that the label says much about others. `disagreement` is how far
the model was from the rules where rules alone led to a person: 1 - p, else 0. Between 0 and 1.5.
"""

from __future__ import annotations

from math import isfinite
from typing import Annotated

from pydantic import Field

from learning.decision.policy_document import PolicyDocument


class LabelRequestPolicy(PolicyDocument):
    """Budget of label requests: how many labels an agent is asked for in a day, and the share of
    handoffs that is drawn at random to be asked about first: their answers speak of all handoffs.
    """

    per_agent_per_day: Annotated[
        int, Field(ge=0, le=1000, description="Most answers that one agent is asked for in a day.")
    ] = 20
    uniform_share: Annotated[
        float,
        Field(ge=0, le=1, description="Share of handoffs drawn at random to be asked about first."),
    ] = 0.2


def label_value(
    probability: float | None, uncertainty: float | None, *, by_rule_alone: bool
) -> float:
    """Acquisition value of a handoff's label, 0 to 1.5; 0 where nothing was scored."""
    if probability is None or not isfinite(probability):
        return 0.0
    s2 = max(0.0, uncertainty or 0.0)
    novelty = s2 / (1.0 + s2) if isfinite(s2) else 1.0
    doubt = 4.0 * probability * (1.0 - probability)
    return doubt * (1.0 + novelty) / 2.0 + (0.5 * (1.0 - probability) if by_rule_alone else 0.0)
