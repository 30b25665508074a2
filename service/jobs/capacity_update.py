"""Capacity control: the price of a handoff moves with the load, by policy entries in the ledger.

Scoring changes nothing by itself. Each pass takes the decisions since the last one as one batch
(`learning.decision.capacity_price.next_price` states the bound for such batches); a change too
small for an entry is kept in memory until it is not. A team with too many waiting is marked full,
likewise.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection

from learning.decision.capacity_price import ETA, next_price
from learning.decision.policy import Policy, Team
from service.store.database.isolation import isolate_errors
from service.store.database.transactions import Store
from service.store.handoffs import handoff_rows
from service.store.ledger import entries
from service.store.reports import counts

ACTOR = "jobs"
BATCH_MIN = 20
"""Decisions that make a batch: of fewer, a share says too little."""

NOTICEABLE = 0.01
"""The least change of the price that is worth a ledger entry."""

LOOKBACK_SECONDS = 3600.0
"""Decisions older than this are not counted after a restart."""

_log = structlog.get_logger("baton.capacity")


@dataclass(slots=True)
class _Price:
    """The unrounded price, the policy's, and the time up to which decisions are counted."""

    exact: float
    policy: float
    until: float


class CapacityUpdate:
    """Updates prices and the `full` marks of teams; one thread runs it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._prices: dict[str, _Price] = {}

    def update_prices(self) -> None:
        """One pass over the workspaces."""
        with self._store.read() as connection:
            policies = {
                name: entries.newest_policy(connection, name)
                for name in entries.workspaces(connection)
            }
        for name, body in policies.items():
            with isolate_errors(name):
                policy = Policy.from_ledger(body)
                bound = any(team.waiting_max for team in policy.teams)
                limited = bound or policy.capacity is not None
                if limited or policy.price or any(team.full for team in policy.teams):
                    self._update_workspace(name, time.time())

    def _update_workspace(self, workspace: str, now: float) -> None:
        with self._store.write() as connection:
            entries.lock_head(connection, workspace)
            policy = Policy.from_ledger(entries.newest_policy(connection, workspace))
            price = self._updated_price(connection, workspace, policy, now)
            teams = tuple(_with_full_flag(connection, workspace, team) for team in policy.teams)
            changed = policy.model_copy(update={"price": price, "teams": teams})
            if changed != policy:
                body = changed.model_dump(mode="json")
                entries.append(connection, workspace, "policy", body, ACTOR)
        if changed != policy:
            full = [team.name for team in teams if team.full]
            _log.info("capacity_moved", workspace=workspace, price=price, full=full)

    def _updated_price(
        self, connection: Connection, workspace: str, policy: Policy, now: float
    ) -> float:
        """The price that the policy should have: its own, unless it differs noticeably."""
        if policy.capacity is None:
            self._prices.pop(workspace, None)
            return 0.0
        price = self._prices.get(workspace)
        if price is None or price.policy != policy.price:
            at = entries.policy_set_at(connection, workspace)
            until = max(at, now - LOOKBACK_SECONDS) if price is None else price.until
            price = self._prices[workspace] = _Price(policy.price, policy.price, until)
        decisions, handoffs = counts.decision_counts(connection, workspace, price.until, now)
        if decisions < BATCH_MIN:
            return policy.price
        price.exact = next_price(price.exact, min(1.0, handoffs / decisions), policy.capacity)
        price.until = now
        at_bound = price.exact in (0.0, 1.0 + ETA) and price.exact != policy.price
        if at_bound or abs(price.exact - policy.price) >= NOTICEABLE:
            price.policy = round(price.exact, 4)
        return price.policy


def _with_full_flag(connection: Connection, workspace: str, team: Team) -> Team:
    """The team marked full from `waiting_max` on until half of them are served (hysteresis)."""
    if team.waiting_max is None:
        return team.model_copy(update={"full": False})
    waiting = handoff_rows.count_waiting(connection, workspace, team.name)
    bar = team.waiting_max / 2 if team.full else team.waiting_max
    return team.model_copy(update={"full": waiting >= bar})
