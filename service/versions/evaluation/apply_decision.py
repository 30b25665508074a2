"""What follows from a verdict: the switch with its evidence, or, in a dry run, a recommendation."""

from __future__ import annotations

from sqlalchemy import Connection

from experiments.evaluation.evaluation_report import Report
from learning.ledger.model_state import ModelState
from learning.measures.scores import measures
from service.store.ledger import change_log
from service.versions import switches
from service.versions.challengers import challenger_requests
from service.versions.challengers.challenger_lines import OpenChallenger
from service.versions.evaluation.promotion_decision import EvaluationInput


def apply(connection: Connection, scene: EvaluationInput, report: Report) -> None:
    """The switch that a report asks for, in the report's own transaction."""
    workspace, evidence = scene.workspace, dict(report.evidence)
    if report.verdict == "promote":
        one = next(x for x in scene.challengers if x.facts.id == evidence["challenger"])
        _promote(connection, scene, one, report)
        why = f"promoted at position {report.position}"
        challenger_requests.close(connection, workspace, one.facts.id, "jobs", why)
        return
    if evidence["finding"] == "anchor":
        number = int(scene.began.body["version"])
        switches.roll_back(
            connection,
            workspace,
            to=number,
            actor="jobs",
            reason=report.sentence,
            evidence=evidence,
            after=scene.champion.switch,
        )
        return
    assert scene.previous is not None
    number = _save_line(connection, workspace, scene.previous, "kept learning in the shadow")
    change = switches.Switch(
        number,
        scene.previous.position,
        report.sentence,
        "jobs",
        scene.previous.without,
        evidence | {"serves": number},
        "rollback",
    )
    switches.append_switch(connection, workspace, change, after=scene.champion.switch)


def _promote(
    connection: Connection, scene: EvaluationInput, one: OpenChallenger, report: Report
) -> None:
    """A challenger that learned serves as it is now; a frozen one as it was, from here on."""
    after, said = scene.champion.switch, report.sentence
    if one.facts.frozen:
        switches.roll_back(
            connection,
            scene.workspace,
            to=one.facts.version,
            actor="jobs",
            reason=said,
            evidence=report.evidence,
            kind="promotion",
            after=after,
        )
        return
    standing = one.standing
    number = _save_line(connection, scene.workspace, standing, f"{one.role} proved better")
    evidence = dict(report.evidence) | {"serves": number}
    change = switches.Switch(number, standing.position, said, "jobs", standing.without, evidence)
    switches.append_switch(connection, scene.workspace, change, after=after)


def _save_line(connection: Connection, workspace: str, standing: ModelState, why: str) -> int:
    """A version of a line as it is now, with its measures."""
    scores = standing.window.scores()
    found = measures(scores.probability, scores.label, scores.weight)
    packed = switches.SerializedState.of(standing)
    return switches.save_version(connection, workspace, packed, line=0, reason=why, metrics=found)


def recommend(connection: Connection, scene: EvaluationInput, report: Report) -> None:
    """Told once for each switch, verdict and version, however often it is found."""
    version = report.evidence.get("to") or report.evidence.get("version")
    facts = {"verdict": report.verdict, "version": version, "switch": scene.champion.switch}
    told = change_log.newest(connection, scene.workspace, "recommendation", 20)
    if not any({name: row.facts.get(name) for name in facts} == facts for row in told):
        facts |= {"sentence": report.sentence, "evaluation": report.evaluation}
        change_log.add(connection, scene.workspace, "recommendation", facts)
