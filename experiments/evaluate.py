"""One scheduled evaluation: from what lines scored before they learned it to a report and a run.

Computing and publishing are apart. `evaluate` needs nothing but the lines' scores, and its report
is plain JSON that `jobs` keeps; `publish` makes one MLflow run of a kept report, whenever MLflow
answers, once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from experiments import judged, report_log, report_page, traffic
from experiments.evaluated_on import evaluated_on
from experiments.judged import Fact, Terms
from experiments.measured import Line, measured
from experiments.mistakes import worst
from experiments.report_page import RECENT, SPAN, SPAN_MIN
from experiments.trail import longer
from learning.accuracy import accuracy
from learning.accuracy import curve as curve_of_routing
from learning.router import Record

if TYPE_CHECKING:  # measuring needs no mlflow, which takes seconds to import
    from experiments.registry import Registry

SWITCHES_MAX = 200
"""Newest switches that a report names."""

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch of the ledger: where, to which version, and why."""

    position: int
    version: int
    reason: str


Verdict = Literal["keep", "promote", "roll back"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be done, why, and on what evidence; `acted` false where it is only recommended."""

    verdict: Verdict = "keep"
    sentence: str = "There is no other line to compare with."
    evidence: Mapping[str, Any] = field(default_factory=dict)
    acted: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found besides the lines' measures, as plain JSON: see `Report`."""

    drift: Mapping[str, Any] | None = None
    contests: Sequence[Mapping[str, Any]] = ()
    guard: Mapping[str, Any] | None = None
    rates: Mapping[str, Any] | None = None
    trail: Sequence[Mapping[str, Any]] = ()
    insight: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluation found. `body` is plain JSON and holds all that its figures show.

    `beside` has each line and the two yardsticks (rules only; always continue) by the window
    (recent, since_switch): what their decisions would have cost. `segments`: the champion in each
    part of the traffic. `rates`: those of what was really decided, with the sums they were made of.
    `contests`: each challenger's proof so far, and what speaks against it. `guard`: the detectors
    since the last promotion. `trail`: what the evaluations before this one found. `insight`: what
    the champion goes by. `mistakes`: the most expensive ones. `data`: the newest lessons, with what
    each line said before it learned them.
    """

    evaluation: str
    position: int
    at: float
    verdict: Verdict
    sentence: str
    evidence: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    switches: Sequence[Mapping[str, Any]]
    costs: Mapping[str, float]
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
        kept = dict(body)
        if kept.pop("format", None) != FORMAT:
            raise ValueError(f"a report of format {body.get('format')}; this build reads {FORMAT}")
        return cls(**kept)


def evaluate(
    evaluation: str,
    position: int,
    at: float,
    champion: Line,
    *others: Line,
    terms: Terms,
    switches: Sequence[Switch] = (),
    finding: Finding = Finding(),
    facts: Iterable[Fact] = (),
    seen: Seen = Seen(),
) -> Report:
    """Measure the champion beside other lines, over windows and since the last switch.

    `evaluation` is the id under which the run is made once; `at` is in seconds since the epoch.
    `terms` are the policy's. `facts` are those of the newest outcomes; what was decided
    (`finding`) and `seen` elsewhere is kept as it is.
    """
    since = max((switch.position for switch in switches), default=0)
    costs = {"threshold": terms.threshold, "unneeded": terms.unneeded, "missed": terms.missed}
    span = min(SPAN, max(SPAN_MIN, len(champion.scores) // 4))
    lines = (champion, *others)
    known = list(facts)
    windows = {"recent": known[-RECENT:], "since_switch": [f for f in known if f.position > since]}
    scores = {line.role: line.scores for line in lines}
    return Report(
        evaluation,
        position,
        at,
        finding.verdict,
        finding.sentence,
        finding.evidence,
        [measured(line, since, costs, span) for line in lines],
        [asdict(switch) for switch in switches[-SWITCHES_MAX:]],
        costs,
        span,
        seen.drift,
        _routing(champion.routed),
        finding.acted,
        {name: judged.beside(part, scores, champion.role, terms) for name, part in windows.items()},
        judged.segments(known, champion.scores, terms),
        seen.rates,
        list(seen.contests),
        seen.guard,
        longer(seen.trail, position, at, seen.rates, seen.drift),
        seen.insight,
        worst(known, champion.scores, terms),
        evaluated_on(lines),
    )


def _routing(routed: Record | None) -> dict[str, Any] | None:
    if routed is None or not routed.tested:
        return None
    return accuracy(routed) | {"curve": curve_of_routing(routed)}


def publish(
    report: Report,
    registry: Registry,
    workspace: str,
    numbers: Sequence[str] = (),
    transcripts: str = "",
) -> str:
    """Make the report's MLflow run, or find it made; its run id.

    `numbers` are the MLflow numbers of the evaluated versions, as far as they are published: the
    run links to them. `transcripts` is the address under which a conversation is found in Baton.
    RegistryUnavailable while MLflow is away: publish the same report later.
    """
    body = report.body()
    return registry.evaluation_run(
        workspace,
        report.evaluation,
        name=f"{report.verdict} at {report.position}",
        description=report_log.description(body, transcripts),
        position=report.position,
        at=report.at,
        metrics=report_log.metrics(body),
        curves=report_log.curves(body),
        params={f"{line['role']}": f"version {line['version']}" for line in report.lines}
        | {f"{line['role']}.recipe": line["recipe"] for line in report.lines}
        | {f"policy.{name}": f"{value:g}" for name, value in report.costs.items()},
        tags={
            "baton.verdict": report.verdict,
            "baton.acted": str(report.acted).lower(),
            "baton.champion": str(report.lines[0]["version"]),
        },
        files={"report.json": json.dumps(body)} | traffic.files(body),
        page=report_page.figures_page(body),
        lasting=report.verdict != "keep",
        numbers=numbers,
        nested=report_log.nested(body),
        data=report_log.data(body),
    )
