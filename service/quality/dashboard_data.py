"""Dashboard metrics: automation, missed and false escalation rates, waiting times, team load,
drift.

A rate of automation never stands without the rate of those it missed, and every rate has its
confidence interval.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection

from learning.decision.policy import Policy
from learning.estimation.rate_intervals import NO_RATE, Rate, under_drift
from service.quality.segment_rates import Segment, by_dimension, count_segments, over_time
from service.store.conversations import reopening_rows
from service.store.handoffs import handoff_rows
from service.store.labels import audit_rows
from service.store.ledger import change_log, entries, mlflow_rows, version_rows
from service.store.reports import activity, counts

DAY = 86_400.0
SPANS = {1: 3600.0, 7: 6 * 3600.0, 30: 86_400.0}
"""Lookback in days, and the seconds of one bar of its chart."""

RATE_SPANS = {1: 4 * 3600.0, 7: 86_400.0, 30: 3 * 86_400.0}
"""Seconds of each point of the rates over time: a rate needs a longer span than a bar."""

SWITCHES_SHOWN, EVENTS_SHOWN = 5, 8


@dataclass(frozen=True, slots=True)
class ClaimTimes:
    """Waiting times of handoffs in seconds: median and 90th percentile (`tenth`) until they were
    claimed; `in_time` of those `promised` a time.
    """

    claimed: int
    waiting: int
    median: float | None
    tenth: float | None
    promised: int
    in_time: int


@dataclass(frozen=True, slots=True)
class TeamLoad:
    """A team's queue and capacity; `next_at`: when one more handoff would be served."""

    name: str
    waiting: int
    claimed: int
    oldest_at: float | None
    away: str | None
    per_hour: float | None
    waiting_max: int | None
    next_at: float | None


@dataclass(frozen=True, slots=True)
class DailyBars:
    """Histogram of conversations by the time of their last message."""

    times: list[float]
    kept: list[int]
    handed_over: list[int]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """The dashboard's data. `false` is of the handoffs opened in this time; `missed` as in GET
    /v1/quality, and so are `rates` and `by_dimension`, of the conversations that began in it.
    """

    days: int
    since: float
    kept: int
    handed_over: int
    automation: Rate
    missed: dict[str, Any]
    handoffs: int
    by_rule: int
    verdicts: dict[str, int]
    false: Rate
    claims: ClaimTimes
    teams: list[TeamLoad]
    handed_share: float | None
    switches: list[dict[str, Any]]
    events: list[dict[str, Any]]
    evaluation: Any
    bars: DailyBars
    rates: dict[str, Any]
    by_dimension: dict[str, dict[str, Any]]
    cut: bool


def load_dashboard(
    connection: Connection, workspace: str, policy: Policy, days: int, now: float
) -> Dashboard:
    """Load the dashboard's data for the last `days` (one of SPANS) up to `now`."""
    since = now - days * DAY
    ended = activity.ended_conversations(connection, workspace, since)
    opened = activity.opened_handoffs(connection, workspace, since)
    escalated = sum(row.escalated for row in ended)
    kept = len(ended) - escalated
    caught = {row.verdict: row.total for row in counts.caught(connection, workspace, since)}
    reopened_missed = reopening_rows.count_late(connection, workspace, since)
    sample = audit_rows.uniform_sample(connection, workspace, since)
    verdicts = Counter(row.verdict or "pending" for row in opened)
    judged = verdicts["needed"] + verdicts["not_needed"]
    decided, handed = counts.decision_counts(connection, workspace, since, now)
    return Dashboard(
        days,
        since,
        kept,
        escalated,
        under_drift(kept, len(ended)) if ended else NO_RATE,
        missed_json(kept, caught.get("missed", 0), reopened_missed, sample),
        len(opened),
        sum(row.by_rule for row in opened),
        dict(verdicts),
        under_drift(verdicts["not_needed"], judged) if judged else NO_RATE,
        _claim_times(opened),
        team_loads(connection, workspace, policy, now),
        handed / decided if decided else None,
        _switches(connection, workspace),
        [row._asdict() for row in change_log.newest(connection, workspace, most=EVENTS_SHOWN)],
        mlflow_rows.last_evaluation(connection, workspace),
        _daily_bars(ended, since, now, SPANS[days]),
        over_time(connection, workspace, policy.costs, since, now, (RATE_SPANS[days],)),
        by_dimension(count_segments(connection, workspace, since), policy.costs),
        max(len(ended), len(opened)) == activity.ROWS_MAX,
    )


def missed_json(kept: int, caught: int, late: int, sample: Any) -> dict[str, Any]:
    segment = Segment(
        kept=kept,
        late=late,
        caught=caught + late,
        found_missed=sample.missed,
        found_fine=sample.fine,
        unknowable=sample.unknowable,
        pending=sample.pending,
        weight=sample.weight,
        squares=sample.squares,
        weight_missed=sample.weight_missed,
    )
    return segment.missed_json()


def dashboard_json(dashboard: Dashboard) -> dict[str, Any]:
    """The data of its charts as JSON; each rate stands in the middle of its span, as far as that
    reaches.
    """
    now, half = dashboard.since + dashboard.days * DAY, dashboard.rates["span_seconds"] / 2
    points = [p | {"at": min(p["at"] + half, now)} for p in dashboard.rates["points"]]
    return {"bars": asdict(dashboard.bars), "rates": points}


def _claim_times(opened: Sequence[Any]) -> ClaimTimes:
    claimed = [row for row in opened if row.claimed_at is not None]
    waits = sorted(max(0.0, row.claimed_at - row.opened_at) for row in claimed)
    promised = [row for row in claimed if row.promised_at is not None]
    return ClaimTimes(
        len(claimed),
        sum(row.status == "waiting" for row in opened),
        statistics.median(waits) if waits else None,
        waits[int(0.9 * (len(waits) - 1))] if waits else None,
        len(promised),
        sum(row.claimed_at <= row.promised_at for row in promised),
    )


def team_loads(
    connection: Connection, workspace: str, policy: Policy, now: float
) -> list[TeamLoad]:
    rows = handoff_rows.counts(connection, workspace)
    counts_by_status = {(row.status, row.team): row for row in rows}
    loads = []
    for name in sorted({*policy.team_names, *(row.team for row in rows)}):
        waiting, claimed = (
            counts_by_status.get(("waiting", name)),
            counts_by_status.get(("claimed", name)),
        )
        ahead = waiting.number if waiting is not None else 0
        team = policy.team(name)
        loads.append(
            TeamLoad(
                name,
                ahead,
                claimed.number if claimed is not None else 0,
                waiting.oldest_at if waiting is not None else None,
                team.away(now) if team is not None else None,
                team.per_hour if team is not None else None,
                team.waiting_max if team is not None else None,
                team.serves_at(now, ahead) if team is not None else None,
            )
        )
    return loads


def _switches(connection: Connection, workspace: str) -> list[dict[str, Any]]:
    """The newest switches, the newest first, with their version's number in MLflow."""
    switches = []
    moves = [s for s in entries.switches(connection, workspace) if s.body["kind"] != "undo"]
    for entry in moves[: -SWITCHES_SHOWN - 1 : -1]:
        version = version_rows.version(connection, workspace, entry.body["version"])
        switches.append(
            {
                "position": entry.position,
                "version": entry.body["version"],
                "reason": entry.body["reason"],
                "actor": entry.actor,
                "at": entry.at,
                "registry_version": version.registry_version if version is not None else None,
            }
        )
    return switches


def _daily_bars(ended: Sequence[Any], since: float, now: float, seconds: float) -> DailyBars:
    first = since - since % seconds
    spans = int((now - first) // seconds) + 1
    bars = DailyBars([first + n * seconds for n in range(spans)], [0] * spans, [0] * spans)
    for row in ended:
        span = min(max(int((row.last_at - first) // seconds), 0), spans - 1)
        (bars.handed_over if row.escalated else bars.kept)[span] += 1
    return bars
