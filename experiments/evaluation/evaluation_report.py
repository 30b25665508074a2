"""Evaluation report: prequential measures, costs, verdict and evidence, as plain JSON.

Computing and publishing are apart. `evaluate` needs nothing but the lines' scores, and its report
is plain JSON that `jobs` keeps; `mlflow_run.publish` makes a run of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from experiments.evaluation import decision_costs
from experiments.evaluation.decision_costs import JudgedOutcome, Population, costliest, openings
from experiments.evaluation.line_measures import EvaluatedLine, lesson_table, line_measures
from experiments.evaluation.windows import RECENT, SPAN, SPAN_MIN
from learning.decision.teams.team_classifier import RoutingScores
from learning.estimation.decision_loss import DecisionLoss
from learning.estimation.routing_accuracy import accuracy
from learning.estimation.routing_accuracy import curve as curve_of_routing

SWITCHES_MAX = 200
"""Newest switches that a report names."""

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch of the ledger: where, to which version, and why."""

    position: int
    version: int
    reason: str


NO_POPULATIONS: Mapping[str, Population] = MappingProxyType({})

VerdictName = Literal["keep", "promote", "roll back"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict with its reason and evidence; `acted` is false where it is only recommended."""

    verdict: VerdictName = "keep"
    sentence: str = "There is no other line to compare with."
    evidence: Mapping[str, Any] = field(default_factory=dict)
    acted: bool = False


@dataclass(frozen=True, slots=True)
class EvaluationInputs:
    """Results computed elsewhere that a report keeps, as plain JSON: see `Report`."""

    drift: Mapping[str, Any] | None = None
    contests: Sequence[Mapping[str, Any]] = ()
    guard: Mapping[str, Any] | None = None
    rates: Mapping[str, Any] | None = None
    trail: Sequence[Mapping[str, Any]] = ()
    insight: Mapping[str, Any] | None = None
    held_out: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Results of an evaluation. `body` is plain JSON and holds all that its figures show.

    `beside` has each line and the two yardsticks (rules only; always continue) by the window
    (recent, since_switch): what their decisions would have cost; and, under `recent`, what rules
    cost in all conversations that were held out. `segments`: the champion in each part of the
    traffic. `rates`: those of what was really decided, with the sums they were made of.
    `contests`: each challenger's proof so far, and what speaks against it. `guard`: the detectors
    since the last promotion. `trail`: what the evaluations before this one found. `insight`: what
    the champion goes by. `mistakes`: the most expensive ones. `data`: the newest lessons, with what
    each line said before it learned them.
    """

    evaluation: str
    position: int
    at: float
    verdict: VerdictName
    sentence: str
    evidence: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    switches: Sequence[Mapping[str, Any]]
    costs: Mapping[str, Any]
    span: int = SPAN
    drift: Mapping[str, Any] | None = None
    routing: Mapping[str, Any] | None = None
    acted: bool = False
    beside: Mapping[str, Any] = field(default_factory=dict)
    segments: Mapping[str, Any] = field(default_factory=dict)
    rates: Mapping[str, Any] | None = None
    contests: Sequence[Mapping[str, Any]] = ()
    guard: Mapping[str, Any] | None = None
    trail: Sequence[Mapping[str, Any]] = ()
    insight: Mapping[str, Any] | None = None
    mistakes: Sequence[Mapping[str, Any]] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """As plain JSON; `Report.of` reads it back."""
        return {"format": FORMAT} | asdict(self)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Report:
        """A kept report. ValueError for one of another format."""
        fields = dict(body)
        if fields.pop("format", None) != FORMAT:
            raise ValueError(f"a report of format {body.get('format')}; this build reads {FORMAT}")
        return cls(**fields)


def evaluate(
    evaluation: str,
    position: int,
    at: float,
    champion: EvaluatedLine,
    *others: EvaluatedLine,
    terms: DecisionLoss,
    switches: Sequence[Switch] = (),
    verdict: Verdict = Verdict(),
    outcomes: Iterable[JudgedOutcome] = (),
    populations: Mapping[str, Population] = NO_POPULATIONS,
    inputs: EvaluationInputs = EvaluationInputs(),
) -> Report:
    """Measure the champion beside other lines, over windows and since the last switch.

    `evaluation` is the id under which the run is made once; `at` is in seconds since the epoch.
    `terms` are the policy's, `outcomes` the newest, `populations` how many conversations there were
    in each window (recent, since_switch) and in all of `outcomes` (every). `verdict` and `inputs`
    are kept as they are.
    """
    since = max((switch.position for switch in switches), default=0)
    span = min(SPAN, max(SPAN_MIN, len(champion.scores) // 4))
    lines = (champion, *others)
    judged = list(outcomes)
    first = openings(judged)
    return Report(
        evaluation,
        position,
        at,
        verdict.verdict,
        verdict.sentence,
        verdict.evidence,
        [line_measures(line, since, terms, first, span) for line in lines],
        [asdict(switch) for switch in switches[-SWITCHES_MAX:]],
        asdict(terms),
        span,
        inputs.drift,
        _routing(champion.routed),
        verdict.acted,
        _beside(judged, lines, since, terms, populations, inputs.held_out),
        decision_costs.segments(judged, champion.scores, terms, populations.get("every")),
        inputs.rates,
        list(inputs.contests),
        inputs.guard,
        append_trail(inputs.trail, position, at, inputs.rates, inputs.drift),
        inputs.insight,
        costliest(judged, champion.scores, terms),
        lesson_table(lines),
    )


def _beside(
    judged: Sequence[JudgedOutcome],
    lines: Sequence[EvaluatedLine],
    since: int,
    terms: DecisionLoss,
    populations: Mapping[str, Population],
    held_out: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Each line and the yardsticks, by window; the first line is the champion."""
    windows = {
        "recent": judged[-RECENT:],
        "since_switch": [fact for fact in judged if fact.position > since],
    }
    scores = {line.role: line.scores for line in lines}
    beside = {
        name: decision_costs.compare_lines(
            part,
            scores,
            lines[0].role,
            terms,
            decision_costs.population_weights(part, populations.get(name)),
        )
        for name, part in windows.items()
    }
    if held_out is not None:
        beside["recent"][decision_costs.RULES_HELD_OUT] = dict(held_out)
    return beside


def _routing(routed: RoutingScores | None) -> dict[str, Any] | None:
    if routed is None or not routed.tested:
        return None
    return accuracy(routed) | {"curve": curve_of_routing(routed)}


LENGTH = 200

RATES = ("missed_rate", "false_escalation_rate", "automation_rate")


def append_trail(
    trail: Sequence[Mapping[str, Any]],
    position: int,
    at: float,
    rates: Mapping[str, Any] | None,
    drift: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """The trail with one point more; of the older half of a long one, every second point stays.

    A point has the rates around the newest outcomes, each `{rate, low, high}` or None, and the
    drift detector's evidence with its bar.
    """
    recent = (rates or {}).get("recent") or {}
    loss = (drift or {}).get("loss") or {}
    point: dict[str, Any] = {"position": position, "at": at}
    for name in RATES:
        rate = recent.get(name)
        point[name] = rate and {bound: rate[bound] for bound in ("rate", "low", "high")}
    point["kept"], point["judged"] = recent.get("kept"), recent.get("judged")
    point["evidence"], point["alarm_at"] = loss.get("evidence"), loss.get("alarm_at")
    points = [dict(earlier) for earlier in trail]
    if len(points) >= LENGTH:
        half = LENGTH // 2
        points = points[:half:2] + points[half:]
    return [*points, point]
