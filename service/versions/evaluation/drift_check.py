"""Drift monitoring of the champion: change detection on its loss, and covariate shift of what
customers bring.

The loss is monitored outcome by outcome; the conversations of a window are compared with those
before it, each window only with conversations not tested before. The state is carried in the
reports, so a restart neither repeats nor loses an alarm.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection

from learning.conversation.features import CONTEXT, features
from learning.conversation.state import EMPTY, State, step
from learning.ledger.model_state import ModelState
from learning.measures.prequential import Scores
from learning.monitoring.covariate_shift import ConversationSnapshot, find_shifts
from learning.monitoring.loss_drift import LossMonitor
from learning.text.similarity import words
from service.store.conversations import conversation_rows
from service.store.database.transactions import Store
from service.store.reports import decision_history

RECENT, REFERENCE = 200, 800
"""Closed conversations that are compared with so many before them."""

REFERENCE_MIN = 400
ALARMS_MAX = 10


@dataclass(slots=True)
class _MonitoredLine:
    """A line's loss monitor and the position up to which it has been fed."""

    switch: int
    since: int
    position: int
    monitor: LossMonitor = field(default_factory=LossMonitor)


class DriftMonitor:
    """Drift checks of one workspace after the other; owned by one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._monitors: dict[str, _MonitoredLine] = {}

    def check_drift(
        self, workspace: str, champion: ModelState, last: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """One drift check, given the last report's drift part: the new part, and the new alarms in
        it.
        """
        last = last or {}
        now = time.time()
        alarms = []
        since = max(champion.switch, int(last.get("watched_since", 0)))
        line = self._update_monitor(workspace, champion, since)
        if line is None:
            alarms.append(_alarm_json("loss", "brier", _LOSS_ROSE, champion.position, now))
            since = champion.position
            line = self._monitors[workspace] = _MonitoredLine(champion.switch, since, since)
        shift_test, findings = self._test_shift(workspace, champion, last.get("tested"))
        alarms += [
            _alarm_json(s["kind"], s["name"], s["sentence"], champion.position, now)
            for s in findings
        ]
        report = {
            "watched_since": since,
            "loss": _loss_json(line.monitor),
            "tested": shift_test,
            "alarms": [*last.get("alarms", []), *alarms][-ALARMS_MAX:],
        }
        return report, alarms

    def add_alarm(
        self, kind: str, name: str, sentence: str, champion: ModelState, report: dict[str, Any]
    ) -> dict[str, Any]:
        """Add an alarm of another detector to the report; gives the alarm."""
        alarm = _alarm_json(kind, name, sentence, champion.position, time.time())
        report["alarms"] = [*report["alarms"], alarm][-ALARMS_MAX:]
        return alarm

    def _update_monitor(
        self, workspace: str, champion: ModelState, since: int
    ) -> _MonitoredLine | None:
        """Feed the monitor all that the champion has learned since; None where it gave alarm."""
        line = self._monitors.get(workspace)
        if line is None or (line.switch, line.since) != (champion.switch, since):
            line = self._monitors[workspace] = _MonitoredLine(champion.switch, since, since)
        scores = champion.window.scores(since=line.position)
        line.position = champion.position
        for loss in brier_losses(scores):
            if line.monitor.learn(loss):
                return None
        return line

    def _test_shift(
        self, workspace: str, champion: ModelState, last: Mapping[str, Any] | None
    ) -> tuple[Mapping[str, Any] | None, list[dict[str, Any]]]:
        """Covariate shift test of the newest closed conversations, if enough are new; else the last
        result.
        """
        until = float(last["until"]) if last else 0.0
        with self._store.read() as connection:
            closed = decision_history.closed(connection, workspace, RECENT + REFERENCE)
            fresh = [row for row in closed[:RECENT] if row.last_at > until]
            if len(fresh) < RECENT or len(closed) < RECENT + REFERENCE_MIN:
                return last, []
            snapshots = [
                _conversation_snapshot(connection, workspace, row.id, champion) for row in closed
            ]
        recent = [g for g in snapshots[:RECENT] if g is not None]
        reference = [g for g in snapshots[RECENT:] if g is not None]
        findings = [asdict(shift) for shift in find_shifts(reference, recent)]
        sizes = {"until": closed[0].last_at, "recent": len(recent), "reference": len(reference)}
        return sizes | {"find_shifts": findings}, findings


_LOSS_ROSE = "the champion's own loss (Brier) rose clearly above what was usual for it"


def brier_losses(scores: Scores) -> list[float]:
    """Weighted Brier loss of each outcome in [0, 1], in ledger order: one outcome is one unit."""
    _, index = np.unique(scores.position, return_inverse=True)
    squares = scores.weight * (scores.probability - scores.label) ** 2
    weights = np.bincount(index, scores.weight)
    mean_losses: list[float] = np.clip(np.bincount(index, squares) / weights, 0.0, 1.0).tolist()
    return mean_losses


def _alarm_json(kind: str, name: str, sentence: str, position: int, at: float) -> dict[str, Any]:
    alarm = {"kind": kind, "name": name, "sentence": sentence, "position": position, "at": at}
    return alarm | {"challenger": None}


def _loss_json(monitor: LossMonitor) -> dict[str, Any]:
    alarm = monitor.alarm
    if alarm is None:
        return {"state": "learning what is usual", "outcomes": monitor.outcomes, "of": monitor.calm}
    return {
        "state": "watching",
        "outcomes": monitor.outcomes,
        "allowed": alarm.allowed,
        "evidence": alarm.evidence,
        "alarm_at": alarm.once_in,
    }


def _conversation_snapshot(
    connection: Connection, workspace: str, name: str, champion: ModelState
) -> ConversationSnapshot | None:
    """A conversation's snapshot at its last scored message; None where nothing was scored."""
    turns: Sequence[Any] = conversation_rows.transcript(connection, workspace, name, 2**31 - 1)
    last = max((n for n, turn in enumerate(turns) if turn.scored), default=None)
    if last is None:
        return None
    state: State = EMPTY
    customer_words: set[str] = set()
    for turn in turns[: last + 1]:
        state = step(state, turn.message)
        if turn.message.author == "user":
            customer_words.update(words(turn.message.text))
    x = features(state)
    context = {feature: x[feature] for feature in CONTEXT if feature in x}
    return ConversationSnapshot(
        champion.score(state).probability, context, frozenset(customer_words)
    )
