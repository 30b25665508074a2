"""Acceptance rates of offers, estimated from customers' answers, beside those of the policy.

Proposed to an engineer with their evidence, never applied.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from learning.decision.policy import Policy
from learning.estimation.off_policy import LoggedConversation
from learning.estimation.offer_acceptance import ANSWERS_MIN, shares
from service.outcomes.ground_truth import ground_truth
from service.store.reports import decision_history

ANSWERS_MAX = 5000
"""Newest answers that are read."""


def acceptance_report(connection: Connection, workspace: str, policy: Policy) -> dict[str, Any]:
    """Acceptance rates by whether a person was needed, with intervals, beside the policy's, as
    JSON.
    """
    answers: dict[str, str] = {}
    for row in decision_history.answers(connection, workspace, ANSWERS_MAX):
        answers[row.conversation_id] = row.answer
    truths = ground_truth(connection, workspace, sorted(answers))
    cases: dict[str, list[LoggedConversation]] = {"accepted": [], "declined": []}
    for name, answer in answers.items():
        truth = truths[name]
        if truth is not None:
            cases[answer].append(truth.of("offered"))
    estimate = shares(cases["accepted"], cases["declined"])
    proposal, why = None, None
    if sum(map(len, cases.values())) < ANSWERS_MIN:
        why = f"fewer than {ANSWERS_MIN} conversations with an answered offer are over"
    elif estimate.needed.value is None or estimate.unneeded.value is None:
        why = "of those who declined nothing is known yet: audits and complaints tell it"
    else:
        values = {"needed": estimate.needed.value, "unneeded": estimate.unneeded.value}
        proposal = {name: round(value, 3) for name, value in values.items()}
    return {
        "accepted": len(cases["accepted"]),
        "declined": len(cases["declined"]),
        "needed": asdict(estimate.needed),
        "unneeded": asdict(estimate.unneeded),
        "in_force": policy.accepting.model_dump(mode="json"),
        "proposed": proposal,
        "why_none": why,
    }
