"""The queue as agents see it: who waits, since when, what they said, who is there to take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from learning.decision.policy import Policy
from service.store.handoffs import handoff_rows

PAGE_SIZE = 50
"""Handoffs on one page of the queue."""

CLAIMED_MAX = 50
"""Claimed handoffs that are shown beside those that wait."""


@dataclass(frozen=True, slots=True)
class TeamQueue:
    """Those that wait for one team, or for all of them (`name` None)."""

    name: str | None
    waiting: int
    claimed: int
    oldest_at: float | None


@dataclass(frozen=True, slots=True)
class QueuePage:
    """One page of those that wait, those in work, and the teams they are for."""

    waiting: Sequence[dict[str, Any]]
    claimed: Sequence[dict[str, Any]]
    own: Sequence[dict[str, Any]]
    everyone: TeamQueue
    teams: Sequence[TeamQueue]
    page: int
    pages: int


def load_queue(
    connection: Connection, workspace: str, agent: str, team: str | None = None, page: int = 1
) -> QueuePage:
    """The queue of a workspace for one agent; a page beyond the last is the last."""
    found = team_queues(connection, workspace)
    chosen = next((one for one in found if one.name == team), TeamQueue(team, 0, 0, None))
    everyone = TeamQueue(
        None,
        sum(one.waiting for one in found),
        sum(one.claimed for one in found),
        min((one.oldest_at for one in found if one.oldest_at is not None), default=None),
    )
    count = everyone.waiting if team is None else chosen.waiting
    pages = max(1, -(-count // PAGE_SIZE))
    page = min(max(page, 1), pages)
    skip = (page - 1) * PAGE_SIZE
    given: dict[str, Any] = {"connection": connection, "workspace": workspace}
    waiting = handoff_rows.queue_page(
        **given, status="waiting", team=team, skip=skip, most=PAGE_SIZE
    )
    own = handoff_rows.queue_page(**given, status="claimed", claimed_by=agent, most=CLAIMED_MAX)
    claimed = handoff_rows.queue_page(**given, status="claimed", team=team, most=CLAIMED_MAX)
    return QueuePage(
        [queue_json(row) for row in waiting],
        [queue_json(row) for row in claimed if row.claimed_by != agent],
        [queue_json(row) for row in own],
        everyone,
        found,
        page,
        pages,
    )


def queue_json(row: Any) -> dict[str, Any]:
    """A handoff as the queue shows it, with the first of its reasons in words."""
    found: dict[str, Any] = row._asdict()
    del found["workspace"], found["fired"]
    reasons = found.pop("reasons") or []
    found["why"] = reasons[0]["text"] if reasons else ""
    return found


def unavailable_teams(
    policy: Policy, teams: Sequence[TeamQueue], now: float
) -> list[tuple[str, TeamQueue]]:
    """Why teams for which somebody waits take nobody now, in words."""
    found = [(policy.team(one.name or ""), one) for one in teams if one.waiting]
    away = [(team.away(now), one) for team, one in found if team is not None]
    return [(why, one) for why, one in away if why is not None]


def team_queues(connection: Connection, workspace: str) -> list[TeamQueue]:
    """The teams for which somebody waits, or that have somebody."""
    rows = handoff_rows.counts(connection, workspace)
    waiting = {row.team: row for row in rows if row.status == "waiting"}
    claimed = {row.team: row for row in rows if row.status == "claimed"}
    return [
        TeamQueue(
            name,
            waiting[name].number if name in waiting else 0,
            claimed[name].number if name in claimed else 0,
            waiting[name].oldest_at if name in waiting else None,
        )
        for name in sorted({*waiting, *claimed})
    ]
