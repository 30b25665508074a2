"""Pages of the handoff queue as agents see it, with counts by team and teams that are away."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from learning.decision.policy import Policy
from service.store.handoffs import handoff_rows

PAGE_SIZE = 50
"""Handoffs on one page of the queue."""

CLAIMED_MAX = 50
"""Claimed handoffs that are shown beside those that wait."""

NEXT_MAX = 10
"""Handoffs that are tried, one after the other, when somebody takes the next one."""


@dataclass(frozen=True, slots=True)
class TeamQueue:
    """The queue's size for one team, or for all of them (`name` None)."""

    name: str | None
    waiting: int
    claimed: int
    oldest_at: float | None


@dataclass(frozen=True, slots=True)
class QueuePage:
    """One page of waiting handoffs, the claimed ones (others' and own), those whose request still
    stands although nobody came in time (overdue), and counts by team.
    """

    waiting: Sequence[dict[str, Any]]
    claimed: Sequence[dict[str, Any]]
    own: Sequence[dict[str, Any]]
    overdue: Sequence[dict[str, Any]]
    everyone: TeamQueue
    teams: Sequence[TeamQueue]
    page: int
    pages: int


def load_queue(
    connection: Connection,
    workspace: str,
    agent: str,
    teams: Collection[str] = (),
    page: int = 1,
) -> QueuePage:
    """The queue of a workspace for one agent, of some teams or of all; a page beyond the last is
    the last.
    """
    every = team_queues(connection, workspace)
    everyone = TeamQueue(
        None,
        sum(queue.waiting for queue in every),
        sum(queue.claimed for queue in every),
        min((queue.oldest_at for queue in every if queue.oldest_at is not None), default=None),
    )
    count = sum(queue.waiting for queue in every if not teams or queue.name in teams)
    pages = max(1, -(-count // PAGE_SIZE))
    page = min(max(page, 1), pages)
    skip = (page - 1) * PAGE_SIZE
    scope: dict[str, Any] = {"connection": connection, "workspace": workspace}
    waiting = handoff_rows.queue_page(
        **scope, status="waiting", teams=teams, skip=skip, most=PAGE_SIZE
    )
    own = handoff_rows.queue_page(**scope, status="claimed", claimed_by=agent, most=CLAIMED_MAX)
    claimed = handoff_rows.queue_page(**scope, status="claimed", teams=teams, most=CLAIMED_MAX)
    return QueuePage(
        [_page_row(row) for row in waiting],
        [_page_row(row) for row in claimed if row.claimed_by != agent],
        [_page_row(row) for row in own],
        [_page_row(row) for row in handoff_rows.unanswered(**scope, teams=teams)],
        everyone,
        every,
        page,
        pages,
    )


def next_ones(connection: Connection, workspace: str, teams: Collection[str] = ()) -> list[str]:
    """The handoffs to take next, of some teams or of all: the most urgent, of those what is
    overdue, of those the oldest first. There are several, for colleagues may be quicker.
    """
    rows = [
        *handoff_rows.unanswered(connection, workspace, teams=teams, most=NEXT_MAX),
        *handoff_rows.queue_page(
            connection, workspace, status="waiting", teams=teams, most=NEXT_MAX
        ),
    ]
    rows.sort(key=lambda row: (row.priority, row.status == "waiting", row.opened_at, row.id))
    return [row.id for row in rows[:NEXT_MAX]]


def _page_row(row: Any) -> dict[str, Any]:
    """The same for a page, which words the first reason itself."""
    return queue_json(row) | {"first_reason": (row.reasons or [None])[0]}


def first_reasons(
    connection: Connection, workspace: str, names: Sequence[str]
) -> dict[str, Mapping[str, Any]]:
    """The first reason of each of some handoffs, where a decision gave one."""
    rows = handoff_rows.by_ids(connection, workspace, names)
    return {row.id: row.reasons[0] for row in rows if row.reasons}


def queue_json(row: Any) -> dict[str, Any]:
    """A handoff as the queue shows it, with the first of its reasons in words."""
    entry: dict[str, Any] = row._asdict()
    del entry["workspace"], entry["fired"]
    reasons = entry.pop("reasons") or []
    entry["why"] = reasons[0]["text"] if reasons else entry["opening_note"] or ""
    entry["raised"] = entry["raised_at"] is not None
    entry["overdue"] = entry["status"] == "unanswered"
    return entry


def unavailable_teams(
    policy: Policy, teams: Sequence[TeamQueue], now: float
) -> list[tuple[str, TeamQueue]]:
    """Teams that take no handoff now although some wait for them, with the reason as a text."""
    pairs = [(policy.team(queue.name or ""), queue) for queue in teams if queue.waiting]
    reasons = [(team.away(now), queue) for team, queue in pairs if team is not None]
    return [(why, queue) for why, queue in reasons if why is not None]


def team_queues(connection: Connection, workspace: str) -> list[TeamQueue]:
    """The open handoffs by team: how many wait, how many are claimed, and since when the oldest
    waits.
    """
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
