"""What an evaluation's lines come to: keep, promote or roll back; why, and on what evidence."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.evaluation.evaluation_report import Verdict
from experiments.evaluation.line_measures import EvaluatedLine
from learning.ledger.model_state import Entry, ModelState
from learning.measures.prequential import paired
from learning.monitoring.rollback_guard import GuardResult, guard
from service.versions.challengers.challenger_lines import OpenChallenger
from service.versions.evaluation.challenger_comparison import DAY
from service.versions.evaluation.drift_check import brier_losses
from service.versions.model_lines import champion_switch_index

BASELINE_OUTCOMES = 500
"""Newest outcomes before a promotion that say what was usual."""


@dataclass(slots=True)
class EvaluationInput:
    """The lines of a workspace as one evaluation finds them."""

    workspace: str
    switches: list[Entry]
    champion: ModelState
    previous: ModelState | None
    anchor: ModelState | None
    challengers: list[OpenChallenger]

    @property
    def began(self) -> Entry:
        """The switch that made the champion."""
        return self.switches[champion_switch_index(self.switches)]

    def lines(self) -> list[EvaluatedLine]:
        named = [("champion", self.champion), ("previous", self.previous), ("anchor", self.anchor)]
        named += [(one.role, one.standing) for one in self.challengers]
        return [
            EvaluatedLine(role, line.version, line.recipe, line.window.scores(), line.routed)
            for role, line in named
            if line is not None
        ]


def run_rollback_guard(scene: EvaluationInput) -> GuardResult | None:
    """The detectors of a champion promoted lately; None where there is nothing to go back to."""
    terms, began = scene.champion.policy.switching, scene.began
    previous = scene.previous
    if previous is None or time.time() - began.at > terms.watch_days * DAY:
        return None
    before = brier_losses(previous.window.scores(until=began.position))[-BASELINE_OUTCOMES:]

    def pair(other: ModelState | None) -> tuple[list[float], list[float]] | None:
        if other is None:
            return None
        a, b = paired(
            scene.champion.window.scores(since=began.position),
            other.window.scores(since=began.position),
        )
        return brier_losses(a), brier_losses(b)

    own = brier_losses(scene.champion.window.scores(since=began.position))
    return guard(before, own, pair(previous), pair(scene.anchor), terms.false_alarm_in)


def choose_verdict(
    scene: EvaluationInput, contests: Sequence[dict[str, Any]], found: GuardResult | None
) -> Verdict:
    """What is to be done: harm first, then the best of those proven better."""
    if found is not None and found.finding in ("previous", "anchor"):
        return rollback_finding(scene, found)
    ready = [one for one in contests if one["proven_better"] and not one["objections"]]
    if ready:
        best = max(ready, key=lambda x: (x.get("saves_at_least") or 0.0, x.get("evidence") or 0.0))
        evidence = {"rule": "proven better", "champion": scene.champion.version} | best
        return Verdict("promote", best["sentence"], evidence)
    said = [one["sentence"] for one in contests]
    if found is not None:
        said.insert(0, keep_sentence(scene, found))
    return Verdict("keep", "; ".join(said) or "There is no other line to compare with.")


def rollback_finding(scene: EvaluationInput, found: GuardResult) -> Verdict:
    line = found.previous_line if found.finding == "previous" else found.anchor_line
    assert line is not None
    assert scene.previous is not None
    to = scene.previous.version if found.finding == "previous" else scene.began.body["version"]
    name = "its predecessor" if found.finding == "previous" else "itself as it was promoted"
    said = (
        f"since its promotion version {scene.champion.version} loses "
        f"{found.champion_line.mean:.3f} an outcome (Brier); {name}, version {to}, loses "
        f"{line.mean:.3f} on the same {line.outcomes}; {found.allowed:.3f} at most was usual"
    )
    evidence = {"rule": "alarm since the promotion", "champion": scene.champion.version}
    evidence |= {"since": scene.began.position, "to": to, "previous": scene.previous.version}
    return Verdict("roll back", said, evidence | asdict(found))


def keep_sentence(scene: EvaluationInput, found: GuardResult) -> str:
    if found.allowed is None:
        return "there is no past to compare the champion with"
    rose = "rose, and so did the lines beside it" if found.finding == "world" else "did not rise"
    return (
        f"since position {scene.began.position} the champion's loss {rose} above "
        f"{found.allowed:.3f} over {found.champion_line.outcomes} outcomes"
    )
