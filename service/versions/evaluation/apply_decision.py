"""Automatic promotion and rollback: the switch that a verdict leads to, with its evidence, or a
recommendation in a dry run.
"""

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


def apply(connection: Connection, inputs: EvaluationInput, report: Report) -> None:
    """Append the switch that a report's verdict asks for, in the report's own transaction.

    Contradiction where another switch has come since.
    """
    workspace, evidence = inputs.workspace, dict(report.evidence)
    if report.verdict == "promote":
        challenger = next(x for x in inputs.challengers if x.row.id == evidence["challenger"])
        _promote(connection, inputs, challenger, report)
        why = f"promoted at position {report.position}"
        challenger_requests.close(connection, workspace, challenger.row.id, "jobs", why)
        return
    if evidence["finding"] == "anchor":
        number = int(inputs.champion_switch.body["version"])
        switches.roll_back(
            connection,
            workspace,
            to=number,
            actor="jobs",
            reason=report.sentence,
            evidence=evidence,
            after=inputs.champion.switch,
        )
        return
    assert inputs.previous is not None
    number = _save_line(connection, workspace, inputs.previous, "kept learning in the shadow")
    change = switches.Switch(
        number,
        inputs.previous.position,
        report.sentence,
        "jobs",
        inputs.previous.without,
        evidence | {"serves": number},
        "rollback",
    )
    switches.append_switch(connection, workspace, change, after=inputs.champion.switch)


def _promote(
    connection: Connection, inputs: EvaluationInput, challenger: OpenChallenger, report: Report
) -> None:
    """Promote a challenger: one that learned serves as it is now, a frozen one as it was."""
    after, reason = inputs.champion.switch, report.sentence
    if challenger.row.frozen:
        switches.roll_back(
            connection,
            inputs.workspace,
            to=challenger.row.version,
            actor="jobs",
            reason=reason,
            evidence=report.evidence,
            kind="promotion",
            after=after,
        )
        return
    model_state = challenger.model_state
    number = _save_line(
        connection, inputs.workspace, model_state, f"{challenger.role} proved better"
    )
    evidence = dict(report.evidence) | {"serves": number}
    change = switches.Switch(
        number, model_state.position, reason, "jobs", model_state.without, evidence
    )
    switches.append_switch(connection, inputs.workspace, change, after=after)


def _save_line(connection: Connection, workspace: str, model_state: ModelState, why: str) -> int:
    """Save a line's model state as a version with its measures; gives its number."""
    scores = model_state.window.scores()
    metrics = measures(scores.probability, scores.label, scores.weight)
    serialized = switches.SerializedState.of(model_state)
    return switches.save_version(
        connection, workspace, serialized, line=0, reason=why, metrics=metrics
    )


def recommend(connection: Connection, inputs: EvaluationInput, report: Report) -> None:
    """Record a recommendation, once for each switch, verdict and version."""
    version = report.evidence.get("to") or report.evidence.get("version")
    facts = {"verdict": report.verdict, "version": version, "switch": inputs.champion.switch}
    newest = change_log.newest(connection, inputs.workspace, "recommendation", 20)
    if not any({name: row.facts.get(name) for name in facts} == facts for row in newest):
        facts |= {"sentence": report.sentence, "evaluation": report.evaluation}
        change_log.add(connection, inputs.workspace, "recommendation", facts)
