"""Scheduled evaluation of a workspace: measure every line, decide on promotion, apply the decision.

The report, the switch that it led to, each challenger's count and the alarms are written in one
transaction: whatever kills `jobs`, all of it is there or none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import structlog
from sqlalchemy import Connection

from experiments.evaluation.decision_costs import JudgedOutcome, Population, held_out_row
from experiments.evaluation.evaluation_report import EvaluationInputs, Report, Switch, evaluate
from learning.estimation.decision_loss import DecisionLoss
from learning.ledger import checkpoint
from learning.ledger.model_state import Entry
from service.runtime.errors import Contradiction
from service.runtime.ids import new_id
from service.store.database.transactions import Store
from service.store.ledger import challenger_rows, change_log, entries, mlflow_rows
from service.versions.challengers import challenger_requests
from service.versions.challengers.challenger_lines import ChallengerLines
from service.versions.evaluation import apply_decision, promotion_decision
from service.versions.evaluation.challenger_comparison import ChallengerComparison, comparison_json
from service.versions.evaluation.comparison_feed import ComparedLines, advance
from service.versions.evaluation.drift_check import DriftMonitor
from service.versions.evaluation.feature_attribution import feature_influences
from service.versions.evaluation.judged_context import JudgedOutcomes
from service.versions.evaluation.promotion_decision import EvaluationInput
from service.versions.evaluation.recent_rates import (
    count_populations,
    decision_rates,
    load_holdout,
)
from service.versions.model_lines import ModelLines
from service.versions.switch_history import without_undos

_log = structlog.get_logger("baton.judging")


class Evaluator:
    """Evaluates one workspace after the other; owned by one thread."""

    def __init__(self, store: Store, lines: ModelLines, models_max: int) -> None:
        self._store = store
        self._lines = lines
        self._drift = DriftMonitor(store)
        self._judged = JudgedOutcomes(store)
        self._challengers = ChallengerLines(store, models_max)

    def evaluate(self, workspace: str) -> Report:
        """Evaluate a workspace: its report is stored, and applied where the policy allows it."""
        inputs = self._load_inputs(workspace)
        champion, policy = inputs.champion, inputs.champion.policy
        outcomes = self._judged.newest(workspace, champion.position)
        with self._store.read() as connection:
            last = mlflow_rows.last_evaluation(connection, workspace)
        last_report = {} if last is None else last.report
        drift, alarms = self._drift.check_drift(workspace, champion, last_report.get("drift"))
        comparisons = self._compare_challengers(inputs, outcomes)
        comparison_reports = [
            comparison_json(comparisons[x.row.id], x, champion, inputs.champion_switch.at, outcomes)
            for x in inputs.challengers
        ]
        guard_result = promotion_decision.run_rollback_guard(inputs)
        verdict = promotion_decision.choose_verdict(inputs, comparison_reports, guard_result)
        costs = DecisionLoss.of(policy)
        rates, populations, held_out = self._count(inputs, outcomes, costs)
        report = evaluate(
            new_id("e"),
            champion.position,
            time.time(),
            *inputs.lines(),
            terms=costs,
            switches=_moves(inputs.switches),
            verdict=verdict,
            outcomes=outcomes.values(),
            populations=populations,
            inputs=EvaluationInputs(
                drift,
                comparison_reports,
                None if guard_result is None else asdict(guard_result),
                rates,
                last_report.get("trail") or (),
                feature_influences(
                    self._store, workspace, [f.conversation for f in outcomes.values()], champion
                ),
                held_out,
            ),
        )
        if (
            guard_result is not None
            and guard_result.finding == "world"
            and not already_alarmed(drift, inputs.champion_switch)
        ):
            alarms += [self._drift.add_alarm("world", "harder", HARDER, champion, drift)]
        return self._record(inputs, report, comparisons, alarms)

    def _count(
        self, inputs: EvaluationInput, outcomes: Mapping[int, JudgedOutcome], costs: DecisionLoss
    ) -> tuple[dict[str, Any], dict[str, Population], dict[str, Any] | None]:
        """The rates of what was decided, how many conversations each window had, and what rules
        alone cost where they decided.
        """
        since = max((switch.position for switch in inputs.switches), default=0)
        known, workspace = list(outcomes.values()), inputs.workspace
        with self._store.read() as connection:
            rates = decision_rates(
                connection, workspace, inputs.champion_switch, inputs.champion, known, costs
            )
            sample = load_holdout(connection, workspace)
            held_out = None if sample is None else held_out_row(sample, costs)
            return rates, count_populations(connection, workspace, since, known), held_out

    def _compare_challengers(
        self, inputs: EvaluationInput, outcomes: Mapping[int, JudgedOutcome]
    ) -> dict[str, ChallengerComparison]:
        """Each challenger's comparison with the champion, by its id, brought up to date."""
        champion, against = inputs.champion, inputs.champion_switch.position
        terms, comparisons = champion.policy.switching, {}
        with self._store.read() as connection:
            number = 0
            for challenger in inputs.challengers:
                if not ChallengerComparison.is_begun(challenger.row, against):
                    begun = challenger_rows.comparisons_begun(connection, inputs.workspace)
                    number = 1 + max(number, begun)
                comparison = ChallengerComparison.of(
                    challenger.row, terms, against, number, inputs.champion_switch.at
                )
                lines = ComparedLines.of(champion, challenger, outcomes)
                advance(connection, inputs.workspace, lines, comparison)
                comparisons[challenger.row.id] = comparison
        return comparisons

    def _load_inputs(self, workspace: str) -> EvaluationInput:
        champion = self._lines.champion(workspace)
        with self._store.read() as connection:
            switches = entries.switches(connection, workspace)
        challengers = self._challengers.open(workspace, champion.position)
        return EvaluationInput(
            workspace,
            [s for s in switches if s.position <= champion.switch],
            champion,
            self._lines.previous(workspace),
            self._lines.anchor(workspace),
            [
                challenger
                for challenger in challengers
                if challenger.model_state.position >= champion.position
            ],
        )

    def _record(
        self,
        inputs: EvaluationInput,
        report: Report,
        comparisons: dict[str, ChallengerComparison],
        alarms: list[dict[str, Any]],
    ) -> Report:
        """Store the report and apply it; where another switch came in between, only store it."""
        act = report.verdict != "keep" and inputs.champion.policy.switching.automatic
        states = {
            challenger.row.id: checkpoint.dump(challenger.model_state)
            for challenger in inputs.challengers
        }
        while True:
            final = replace(report, acted=act)
            try:
                with self._store.write() as connection:
                    self._save_comparisons(connection, inputs, comparisons, states)
                    self._record_alarms(connection, inputs, alarms)
                    mlflow_rows.add_evaluation(
                        connection,
                        inputs.workspace,
                        final.evaluation,
                        final.position,
                        final.at,
                        final.body(),
                    )
                    if act:
                        apply_decision.apply(connection, inputs, final)
                    elif report.verdict != "keep":
                        apply_decision.recommend(connection, inputs, final)
                break
            except Contradiction as error:
                if not act:
                    raise
                _log.info("switch_left_alone", workspace=inputs.workspace, why=str(error))
                act = False
        if act:
            _log.warning("switched", workspace=inputs.workspace, why=report.sentence)
        return final

    def _save_comparisons(
        self,
        connection: Connection,
        inputs: EvaluationInput,
        comparisons: Mapping[str, ChallengerComparison],
        states: Mapping[str, bytes],
    ) -> None:
        """Store each challenger's model state and comparison together."""
        for challenger in inputs.challengers:
            challenger_rows.change(
                connection,
                inputs.workspace,
                challenger.row.id,
                duel=comparisons[challenger.row.id].body(),
                position=challenger.model_state.position,
                without=challenger.model_state.without.body(),
                state=states[challenger.row.id],
            )

    def _record_alarms(
        self, connection: Connection, inputs: EvaluationInput, alarms: Sequence[dict[str, Any]]
    ) -> None:
        """Log alarms and request a challenger that forgets sooner. Nothing is reset."""
        workspace, recipe = inputs.workspace, inputs.champion.recipe
        for alarm in alarms:
            _log.warning("drift", workspace=workspace, what=alarm["name"], why=alarm["sentence"])
            challenger_requests.challenge_on_alarm(connection, workspace, alarm, recipe)
            change_log.add(connection, workspace, "alarm", alarm)


def _moves(switches: Sequence[Entry]) -> list[Switch]:
    """The switches that changed what serves, as a report has them."""
    return [
        Switch(s.position, s.body["version"], s.body["reason"]) for s in without_undos(switches)
    ]


HARDER = (
    "the loss rose above what was usual before the promotion, for the lines that stayed behind, "
    "too: the world has become harder"
)


def already_alarmed(drift: dict[str, Any], champion_switch: Entry) -> bool:
    """Whether the drift report has a `world` alarm since the champion's promotion."""
    return any(
        a["kind"] == "world" and a["position"] > champion_switch.position for a in drift["alarms"]
    )
