"""One scheduled evaluation of a workspace: every line measured, and what follows from it done.

The report, the switch that it led to, how far each challenger's count goes, and what people should
hear are written in one transaction: whatever kills `jobs`, all of it is there or none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import structlog
from sqlalchemy import Connection

from experiments.evaluation.decision_costs import DecisionCosts
from experiments.evaluation.evaluation_report import EvaluationInputs, Report, Switch, evaluate
from learning.ledger import checkpoint
from learning.ledger.model_state import Entry
from service.runtime.errors import Contradiction
from service.runtime.ids import new_id
from service.store.database.transactions import Store
from service.store.ledger import challenger_rows, change_log, entries, mlflow_rows
from service.versions.challengers import challenger_requests
from service.versions.challengers.challenger_lines import ChallengerLines
from service.versions.evaluation import apply_decision, promotion_decision
from service.versions.evaluation.challenger_comparison import ChallengerComparison, judged
from service.versions.evaluation.drift_check import DriftMonitor
from service.versions.evaluation.feature_attribution import insight
from service.versions.evaluation.judged_context import JudgedOutcomes
from service.versions.evaluation.promotion_decision import EvaluationInput
from service.versions.evaluation.recent_rates import RecentRates
from service.versions.model_lines import ModelLines

_log = structlog.get_logger("baton.judging")


class Evaluator:
    """Evaluates one workspace after the other; one thread owns it."""

    def __init__(self, store: Store, lines: ModelLines, models_max: int) -> None:
        self._store = store
        self._lines = lines
        self._drift = DriftMonitor(store)
        self._facts = JudgedOutcomes(store)
        self._recent = RecentRates(store)
        self._challengers = ChallengerLines(store, models_max)

    def evaluate(self, workspace: str) -> Report:
        """One evaluation: its report stored, and acted upon where the policy lets it."""
        scene = self._scene(workspace)
        champion, policy = scene.champion, scene.champion.policy
        facts = self._facts.newest(workspace, champion.position)
        with self._store.read() as connection:
            last = mlflow_rows.last_evaluation(connection, workspace)
        before = {} if last is None else last.report
        drift, alarms = self._drift.look(workspace, champion, before.get("drift"))
        terms, against = policy.switching, scene.began.position
        contests = {
            x.facts.id: ChallengerComparison.of(x.facts, terms, against) for x in scene.challengers
        }
        for one in scene.challengers:
            contests[one.facts.id].learn(champion, one.standing, facts)
        shown = [
            judged(contests[x.facts.id], x, champion, scene.began.at, facts)
            for x in scene.challengers
        ]
        found = promotion_decision.run_rollback_guard(scene)
        finding = promotion_decision.choose_verdict(scene, shown, found)
        costs = DecisionCosts(
            policy.thresholds.escalate, policy.costs.unneeded, policy.costs.missed
        )
        rates = self._recent.rates(workspace, scene.began, champion, facts, costs, before)
        report = evaluate(
            new_id("e"),
            champion.position,
            time.time(),
            *scene.lines(),
            terms=costs,
            switches=[
                Switch(s.position, s.body["version"], s.body["reason"]) for s in scene.switches
            ],
            verdict=finding,
            outcomes=facts.values(),
            inputs=EvaluationInputs(
                drift,
                shown,
                None if found is None else asdict(found),
                rates,
                before.get("trail") or (),
                insight(self._store, workspace, [f.conversation for f in facts.values()], champion),
            ),
        )
        if (
            found is not None
            and found.finding == "world"
            and not already_alarmed(drift, scene.began)
        ):
            alarms += [self._drift.add("world", "harder", HARDER, champion, drift)]
        return self._kept(scene, report, contests, alarms)

    def _scene(self, workspace: str) -> EvaluationInput:
        champion = self._lines.champion(workspace)
        with self._store.read() as connection:
            switches = entries.switches(connection, workspace)
        followers = self._challengers.open(workspace, champion.position)
        return EvaluationInput(
            workspace,
            [s for s in switches if s.position <= champion.switch],
            champion,
            self._lines.previous(workspace),
            self._lines.anchor(workspace),
            [one for one in followers if one.standing.position >= champion.position],
        )

    def _kept(
        self,
        scene: EvaluationInput,
        report: Report,
        contests: dict[str, ChallengerComparison],
        alarms: list[dict[str, Any]],
    ) -> Report:
        """Write what was found, and do it; where another switch came in between, only write."""
        act = report.verdict != "keep" and scene.champion.policy.switching.automatic
        states = {one.facts.id: checkpoint.dump(one.standing) for one in scene.challengers}
        while True:
            done = replace(report, acted=act)
            try:
                with self._store.write() as connection:
                    self._count(connection, scene, contests, states)
                    self._alarm(connection, scene, alarms)
                    mlflow_rows.add_evaluation(
                        connection,
                        scene.workspace,
                        done.evaluation,
                        done.position,
                        done.at,
                        done.body(),
                    )
                    if act:
                        apply_decision.apply(connection, scene, done)
                    elif report.verdict != "keep":
                        apply_decision.recommend(connection, scene, done)
                break
            except Contradiction as error:
                if not act:
                    raise
                _log.info("switch_left_alone", workspace=scene.workspace, why=str(error))
                act = False
        if act:
            _log.warning("switched", workspace=scene.workspace, why=report.sentence)
        return done

    def _count(
        self,
        connection: Connection,
        scene: EvaluationInput,
        contests: Mapping[str, ChallengerComparison],
        states: Mapping[str, bytes],
    ) -> None:
        """How far each challenger has learned and been counted, stored together."""
        for one in scene.challengers:
            challenger_rows.change(
                connection,
                scene.workspace,
                one.facts.id,
                duel=contests[one.facts.id].body(),
                position=one.standing.position,
                without=one.standing.without.body(),
                state=states[one.facts.id],
            )

    def _alarm(
        self, connection: Connection, scene: EvaluationInput, alarms: Sequence[dict[str, Any]]
    ) -> None:
        """Alarms are told, and open a challenger that forgets sooner. Nothing is reset."""
        workspace, recipe = scene.workspace, scene.champion.recipe
        for alarm in alarms:
            _log.warning("drift", workspace=workspace, what=alarm["name"], why=alarm["sentence"])
            challenger_requests.challenge_on_alarm(connection, workspace, alarm, recipe)
            change_log.add(connection, workspace, "alarm", alarm)


HARDER = (
    "the loss rose above what was usual before the promotion, for the lines that stayed behind, "
    "too: the world has become harder"
)


def already_alarmed(drift: dict[str, Any], began: Entry) -> bool:
    """Whether an alarm since the promotion said so before."""
    return any(a["kind"] == "world" and a["position"] > began.position for a in drift["alarms"])
