"""Promotion and rollback decision: the verdict (keep, promote, roll back) with its evidence."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from experiments.evaluation.evaluation_report import Verdict
from experiments.evaluation.line_measures import EvaluatedLine
from learning.estimation.decision_loss import DecisionLoss
from learning.ledger.model_state import Entry, ModelState
from learning.measures.prequential import Scores, pair_scores
from learning.monitoring.rollback_guard import GuardResult, PairedLosses, guard
from service.versions.challengers.challenger_lines import OpenChallenger
from service.versions.evaluation.challenger_comparison import DAY
from service.versions.evaluation.drift_check import brier_losses
from service.versions.model_lines import champion_switch_index

BASELINE_OUTCOMES = 500
"""Newest outcomes before a promotion that set the usual loss."""


@dataclass(slots=True)
class EvaluationInput:
    """The model lines of a workspace as one evaluation reads them."""

    workspace: str
    switches: list[Entry]
    champion: ModelState
    previous: ModelState | None
    anchor: ModelState | None
    challengers: list[OpenChallenger]

    @property
    def champion_switch(self) -> Entry:
        """The switch that made the champion."""
        return self.switches[champion_switch_index(self.switches)]

    def lines(self) -> list[EvaluatedLine]:
        """The lines with their scores, for the report."""
        lines = [("champion", self.champion), ("previous", self.previous), ("anchor", self.anchor)]
        lines += [(x.role, x.model_state) for x in self.challengers]
        return [
            EvaluatedLine(role, line.version, line.recipe, line.window.scores(), line.routed)
            for role, line in lines
            if line is not None
        ]


def run_rollback_guard(inputs: EvaluationInput) -> GuardResult | None:
    """Run the rollback guard on a champion promoted within `watch_days`; None where there is no
    predecessor to return to.
    """
    terms, champion_switch = inputs.champion.policy.switching, inputs.champion_switch
    previous = inputs.previous
    if previous is None or time.time() - champion_switch.at > terms.watch_days * DAY:
        return None
    usual = brier_losses(previous.window.scores(until=champion_switch.position))[
        -BASELINE_OUTCOMES:
    ]

    loss = DecisionLoss.of(inputs.champion.policy)

    def pair(other: ModelState | None) -> PairedLosses | None:
        if other is None:
            return None
        a, b = pair_scores(
            inputs.champion.window.scores(since=champion_switch.position),
            other.window.scores(since=champion_switch.position),
        )
        saves = mean_cost(a, loss) - mean_cost(b, loss)
        return PairedLosses(brier_losses(a), brier_losses(b), saves)

    own = brier_losses(inputs.champion.window.scores(since=champion_switch.position))
    return guard(usual, own, pair(previous), pair(inputs.anchor), terms.false_alarm_in)


def mean_cost(scores: Scores, loss: DecisionLoss) -> float:
    """Mean decision loss of a line's judged conversations, one per outcome: the cost of the
    strongest action that the policy takes at its probabilities; 0 without any.
    """
    if not len(scores):
        return 0.0
    starts = np.flatnonzero(np.diff(scores.position, prepend=scores.position[0] - 1))
    level = loss.levels(np.maximum.reduceat(scores.probability, starts))
    needed = np.maximum.reduceat(scores.label, starts)
    costs = (1 - needed) * loss.losses(level, False) + needed * loss.losses(level, True)
    return float(costs.mean())


def choose_verdict(
    inputs: EvaluationInput, comparisons: Sequence[dict[str, Any]], result: GuardResult | None
) -> Verdict:
    """The verdict: rollback on harm first, then the best challenger proven better, else keep."""
    if result is not None and result.finding in ("previous", "anchor"):
        return rollback_finding(inputs, result)
    ready = [x for x in comparisons if x["proven_better"] and not x["objections"]]
    if ready:
        best = max(ready, key=lambda x: (x.get("saves_at_least") or 0.0, x.get("evidence") or 0.0))
        evidence = {"rule": "proven better", "champion": inputs.champion.version} | best
        return Verdict("promote", best["sentence"], evidence)
    sentences = [x["sentence"] for x in comparisons]
    if result is not None:
        sentences.insert(0, keep_sentence(inputs, result))
    return Verdict("keep", "; ".join(sentences) or "There is no other line to compare with.")


def rollback_finding(inputs: EvaluationInput, result: GuardResult) -> Verdict:
    """The verdict "roll back", with the guard's evidence."""
    line = result.previous_line if result.finding == "previous" else result.anchor_line
    assert line is not None
    assert inputs.previous is not None
    to = (
        inputs.previous.version
        if result.finding == "previous"
        else inputs.champion_switch.body["version"]
    )
    name = "its predecessor" if result.finding == "previous" else "itself as it was promoted"
    sentence = (
        f"since its promotion version {inputs.champion.version} loses "
        f"{result.champion_line.mean:.3f} an outcome (Brier); {name}, version {to}, loses "
        f"{line.mean:.3f} on the same {line.outcomes}; {result.allowed:.3f} at most was usual; "
        f"its decisions would have cost {line.saves:.3f} less a conversation"
    )
    evidence = {"rule": "alarm since the promotion", "champion": inputs.champion.version}
    evidence |= {
        "since": inputs.champion_switch.position,
        "to": to,
        "previous": inputs.previous.version,
    }
    return Verdict("roll back", sentence, evidence | asdict(result))


def keep_sentence(inputs: EvaluationInput, result: GuardResult) -> str:
    """What the rollback guard found, in a sentence, where the champion stays."""
    if result.allowed is None:
        return "there is no past to compare the champion with"
    rose = "rose, and so did the lines beside it" if result.finding == "world" else "did not rise"
    return (
        f"since position {inputs.champion_switch.position} the champion's loss {rose} above "
        f"{result.allowed:.3f} over {result.champion_line.outcomes} outcomes"
    )
