"""Today's summary: whether all is well, in one sentence and five figures, and what to look at.

Bounds are read as bounds: of the missed rate its upper one. Everything statistical is the
dashboard's (`service.quality.dashboard_data`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection

from learning.decision.policy import Policy
from learning.estimation.rate_intervals import NO_RATE, Rate, under_drift
from service.quality.dashboard_data import DAY, TeamLoad, missed_json, team_loads
from service.store.conversations import reopening_rows
from service.store.handoffs import handoff_rows
from service.store.labels import audit_rows
from service.store.ledger import change_log, entries, mlflow_rows
from service.store.reports import activity, counts

MISSED_SHOWN, CHANGES_SHOWN = 6, 8
MISSED_MAX = 0.2
"""A missed rate that is surely above it asks for attention."""

KEPT_MIN = 20
"""Of fewer kept conversations nothing is said by their share."""

Standing = Literal["well", "attention", "unknown"]
ALARMS = ("alarm", "recommendation", "agent_suspected", "challenger_failed")
TELLS = ("challenger_opened", "challenger_closed")
"""Events that are told beside alarms; promotions and rollbacks are told as the moves they are."""


@dataclass(frozen=True, slots=True)
class CostComparison:
    """How much more rules alone would cost a conversation than Baton does, with its interval, by
    so many conversations of a `source`: bounds, judged ones, or a holdout.
    """

    champion: float
    rules: float
    more: float
    low: float
    high: float
    conversations: int
    source: str

    @property
    def is_sure(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Change:
    """Something that changed: an alarm, another version that serves, or another policy."""

    at: float
    what: str
    text: str
    actor: str | None = None
    is_loud: bool = False


@dataclass(frozen=True, slots=True)
class Today:
    """The summary. `standing` in a word, `why` in sentences; `before` is the share kept in the time
    before; `changes` are of the last day, `log` the newest of all.
    """

    days: int
    standing: Standing
    why: tuple[str, ...]
    kept: int
    ended: int
    automation: Rate
    before: float | None
    missed: dict[str, Any]
    cost: CostComparison | None
    waiting: int
    oldest_at: float | None
    overdue: int
    late: int
    teams: list[TeamLoad]
    misses: Sequence[Any]
    changes: list[Change]
    log: list[Change]
    is_first_day: bool


def load_today(
    connection: Connection, workspace: str, policy: Policy, days: int, now: float
) -> Today:
    """Load the summary of the last `days` up to `now`."""
    since, where = now - days * DAY, (connection, workspace)
    kept, ended = _kept(activity.ended_conversations(*where, since))
    kept_before, ended_before = _kept(
        activity.ended_conversations(*where, since - days * DAY), until=since
    )
    teams = team_loads(*where, policy, now)
    overdue = handoff_rows.unanswered(*where)
    late = handoff_rows.count_late(*where, now)
    missed = _missed(connection, workspace, since, kept)
    log = _log(connection, workspace)
    changes = [change for change in log if change.at >= now - DAY]
    cost = _cost(mlflow_rows.last_evaluation(*where))
    why, standing = _standing(ended, missed, cost, len(overdue), late, changes)
    return Today(
        days,
        standing,
        tuple(why),
        kept,
        ended,
        under_drift(kept, ended) if ended else NO_RATE,
        kept_before / ended_before if ended_before else None,
        missed,
        cost,
        sum(team.waiting for team in teams),
        min((team.oldest_at for team in teams if team.oldest_at is not None), default=None),
        len(overdue),
        late,
        teams,
        counts.newest_missed(*where, since, MISSED_SHOWN),
        changes,
        log[:CHANGES_SHOWN],
        not counts.any_conversation(*where),
    )


def _kept(rows: Sequence[Any], until: float | None = None) -> tuple[int, int]:
    """Of conversations that ended (before a moment): how many the bot kept, and how many in all."""
    counted = [row.escalated for row in rows if until is None or row.last_at < until]
    return len(counted) - sum(counted), len(counted)


def _missed(connection: Connection, workspace: str, since: float, kept: int) -> dict[str, Any]:
    caught = {row.verdict: row.total for row in counts.caught(connection, workspace, since)}
    late = reopening_rows.count_late(connection, workspace, since)
    sample = audit_rows.uniform_sample(connection, workspace, since)
    return missed_json(kept, caught.get("missed", 0), late, sample)


def _cost(evaluation: Any) -> CostComparison | None:
    """Baton's cost beside that of rules alone, by the newest evaluation that could tell; by the
    holdout where it tells.
    """
    report = {} if evaluation is None else evaluation.report
    beside = (report.get("beside") or {}).get("recent") or {}
    own = (beside.get("champion") or {}).get("cost_per_conversation")
    for name in ("rules only, holdout", "rules only"):
        rules = beside.get(name) or {}
        theirs, more = rules.get("cost_per_conversation"), rules.get("more_than_champion")
        if own and theirs and more:
            source = rules.get("source", "bounds")
            estimate, low, high = more
            judged = rules["conversations"]
            return CostComparison(own[0], theirs[0], estimate, low, high, judged, source)
    return None


def _standing(
    ended: int,
    missed: Mapping[str, Any],
    cost: CostComparison | None,
    overdue: int,
    late: int,
    changes: Sequence[Change],
) -> tuple[list[str], Standing]:
    """Why somebody should look, or why nothing can be said yet, or neither."""
    looks = []
    if overdue:
        more = f"{overdue} requests waited in vain"
        looks.append("1 request waited in vain" if overdue == 1 else more)
    if late:
        more = f"{late} conversations wait longer than was promised"
        looks.append("1 conversation waits longer than was promised" if late == 1 else more)
    if missed["kept_conversations"] >= KEPT_MIN and (missed["low"] or 0.0) > MISSED_MAX:
        share = f"{100 * missed['low']:.0f} %"
        looks.append(f"the bot keeps too many: at least {share} needed a person")
    if cost is not None and cost.high < 0:
        looks.append("rules alone would cost less than the model does")
    alarms = [change for change in changes if change.is_loud]
    if alarms:
        more = f"{len(alarms)} alarms since yesterday"
        looks.append("1 alarm since yesterday" if len(alarms) == 1 else more)
    if looks:
        return looks, "attention"
    if not ended:
        return ["no conversation has ended in this time"], "unknown"
    if missed["why"]:
        return [str(missed["why"])], "unknown"
    return [], "well"


def _log(connection: Connection, workspace: str) -> list[Change]:
    """Alarms, moves and policies as one list, the newest first."""
    events = change_log.newest(connection, workspace, most=50)
    told = [
        Change(
            row.at,
            row.kind.replace("_", " "),
            str(row.facts.get("sentence", "")),
            is_loud=row.kind in ALARMS,
        )
        for row in events
        if row.kind in ALARMS or row.kind in TELLS
    ]
    return sorted(
        [*told, *_moves(connection, workspace), *_policies(connection, workspace)],
        key=lambda change: -change.at,
    )


def _moves(connection: Connection, workspace: str) -> list[Change]:
    moves = [s for s in entries.switches(connection, workspace) if s.body["kind"] != "undo"]
    told = []
    for number, entry in enumerate(moves):
        version, kind = entry.body["version"], entry.body["kind"]
        back = number > 0 and version < moves[number - 1].body["version"]
        reason = entry.body["reason"]
        what = f"moved to version {version}: {reason}"
        if not number:
            what = f"began with version {version}: {reason}"
        elif kind == "rollback" and back:
            what = f"went back to version {version}: {reason}"
        told.append(Change(entry.at, "model", what, entry.actor))
    return told[-CHANGES_SHOWN:]


def _policies(connection: Connection, workspace: str) -> list[Change]:
    """What people changed in the policy, by the names of its parts."""
    rows = entries.newest_policies(connection, workspace, CHANGES_SHOWN + 1)
    told = []
    for after, before in zip(rows, [*rows[1:], None], strict=True):
        if before is None:
            continue
        names = sorted(
            name
            for name in {*after.body, *before.body}
            if after.body.get(name) != before.body.get(name)
        )
        text = f"other {', '.join(name.replace('_', ' ') for name in names)}"
        if names:
            told.append(Change(after.at, "policy", text, after.actor))
    return told
