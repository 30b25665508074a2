"""Judged outcomes with their propensities (inverse propensity weighting) and segments, for the
estimates of an evaluation.

An outcome's propensity is the probability with which it was to become known: 1 for an agent's
verdict on a handoff and for recorded labels, the audit's propensity for a kept conversation. One
found by a complaint is a known stratum of its own, not a sample: it counts as far as the audits
drew it, and not otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import Connection

from experiments.evaluation.decision_costs import JudgedOutcome
from learning.ledger.lessons import WEAK_SOURCES, lessons
from learning.ledger.model_state import Entry
from learning.measures.prequential import Scores
from service.store.database.transactions import Store
from service.store.labels import outcome_context

OUTCOMES_MAX = 2000
"""Newest outcomes of a workspace that are held."""

SEGMENT_NAME_MAX = 64
HOURS = 4
_AT_ONCE = 400


class JudgedOutcomes:
    """Cache of the newest judged outcomes by workspace, read incrementally; owned by one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._outcomes: dict[str, dict[int, JudgedOutcome]] = {}
        self._until: dict[str, int] = {}
        self._origins: dict[str, dict[int, int]] = {}

    def newest(self, workspace: str, until: int) -> Mapping[int, JudgedOutcome]:
        """Judged outcomes by ledger position, in order, up to a position; at most OUTCOMES_MAX."""
        outcomes = self._outcomes.setdefault(workspace, {})
        with self._store.read() as connection:
            after = self._until.get(workspace, 0)
            entries = [
                entry
                for entry in outcome_context.outcomes(connection, workspace, after, OUTCOMES_MAX)
                if entry.position <= until
            ]
            for start in range(0, len(entries), _AT_ONCE):
                for outcome in _judged_outcomes(
                    connection, workspace, entries[start : start + _AT_ONCE]
                ):
                    outcomes[outcome.position] = outcome
            self._correct(workspace, entries)
            self._until[workspace] = max(until, self._until.get(workspace, 0))
            for position in list(outcomes)[: max(0, len(outcomes) - OUTCOMES_MAX)]:
                del outcomes[position]
            _mark_caught(connection, workspace, outcomes)
        return outcomes

    def _correct(self, workspace: str, entries: Sequence[Entry]) -> None:
        """Give corrected outcomes the label that is now in force; each stays where it was."""
        outcomes = self._outcomes[workspace]
        origins = self._origins.setdefault(workspace, {})
        for entry in entries:
            replaced = entry.body.get("replaces")
            if replaced is not None:
                origin = origins[entry.position] = origins.pop(replaced, replaced)
                if origin in outcomes and outcomes[origin].needed is not None:
                    needed = _label(entry.body)
                    outcomes[origin] = replace(outcomes[origin], needed=needed)


def held_out_outcomes(
    connection: Connection, workspace: str, since: float
) -> tuple[list[JudgedOutcome], Scores]:
    """The judged outcomes of conversations that were held out and began since, by the verdicts in
    force, and what the model said in each when it was decided.
    """
    entries = outcome_context.held_out(connection, workspace, since)
    outcomes: dict[int, JudgedOutcome] = {}
    said: list[tuple[int, float]] = []
    for start in range(0, len(entries), _AT_ONCE):
        piece = entries[start : start + _AT_ONCE]
        for entry, fact in zip(piece, _judged_outcomes(connection, workspace, piece), strict=True):
            corrected = bool(entry.body.get("replaces"))
            outcomes[entry.position] = (
                replace(fact, needed=_label(entry.body)) if corrected else fact
            )
        names = sorted({entry.body["conversation_id"] for entry in piece})
        decisions = outcome_context.decisions(connection, workspace, names)
        said += [
            (entry.position, row.probability)
            for entry in piece
            for row in decisions
            if row.conversation_id == entry.body["conversation_id"]
            and entry.body["begins"] <= row.seq <= entry.body["covers"]
        ]
    _mark_caught(connection, workspace, outcomes)
    return list(outcomes.values()), _scores(said)


def _scores(said: Sequence[tuple[int, float]]) -> Scores:
    position = np.array([at for at, _ in said], np.int64)
    probability = np.array([p for _, p in said], np.float64)
    ones = np.ones(position.size)
    return Scores(position, probability, ones, ones, position)


def _mark_caught(
    connection: Connection, workspace: str, outcomes: dict[int, JudgedOutcome]
) -> None:
    """Mark what came to light by itself after it was audited: it is no part of the sample."""
    audited = {f.conversation: at for at, f in outcomes.items() if f.uniform and not f.caught}
    names = sorted(audited)
    for start in range(0, len(names), _AT_ONCE):
        piece = names[start : start + _AT_ONCE]
        for name in outcome_context.caught(connection, workspace, piece):
            outcomes[audited[name]] = replace(outcomes[audited[name]], caught=True)


def _judged_outcomes(
    connection: Connection, workspace: str, entries: Sequence[Entry]
) -> list[JudgedOutcome]:
    names = sorted({entry.body["conversation_id"] for entry in entries})
    decisions: dict[str, list[Any]] = {}
    for row in outcome_context.decisions(connection, workspace, names):
        decisions.setdefault(row.conversation_id, []).append(row)
    first_scores = {
        row.conversation_id: row
        for row in outcome_context.first_messages(connection, workspace, names)
    }
    audits = {
        row.conversation_id: row for row in outcome_context.audits(connection, workspace, names)
    }
    outcomes = []
    for entry in entries:
        name = entry.body["conversation_id"]
        before = [row for row in decisions.get(name, ()) if row.seq <= entry.body["covers"]]
        outcomes.append(_judged_outcome(entry, before, first_scores.get(name), audits.get(name)))
    return outcomes


def _judged_outcome(
    entry: Entry, decisions: Sequence[Any], first: Any, audit: Any
) -> JudgedOutcome:
    body = entry.body
    handed_over = body["handoff_id"] is not None
    audited = audit is not None and audit.status != "passed"
    by_itself = not handed_over and not body.get("labels") and body["source"] != "audit"
    silent = body["source"] in (*WEAK_SOURCES, "history")
    return JudgedOutcome(
        entry.position,
        body["conversation_id"],
        entry.at,
        None if silent or body.get("replaces") else _label(body),
        _propensity(body, audit.propensity if audited else 0.0, by_itself=by_itself),
        bool(body.get("by_rule")) or any(d.by_rule and d.action == "escalate" for d in decisions),
        handed_over,
        bool(body.get("by_rule")),
        audit.uniform_propensity if audited and audit.uniform else 0.0,
        by_itself and body["verdict"] == "missed",
        decisions[0].at if decisions else entry.at,
        tuple(_segments(decisions, first)),
        any(d.by_rule and d.action == "offer" for d in decisions),
        _opening(body, decisions),
        bool(body.get("labels")),
        any(decision.held_out for decision in decisions),
    )


def _opening(body: Mapping[str, Any], decisions: Sequence[Any]) -> int:
    """The number of its lessons, if the first is of the customer's first message, else 0."""
    taught = lessons(body, [decision.seq for decision in decisions])
    opens = bool(taught) and taught[0].seq == decisions[0].seq and body["begins"] == 1
    return len(taught) if opens else 0


def _label(body: Mapping[str, Any]) -> bool | None:
    if body.get("labels"):
        return any(label > 0.5 for _, label, _ in body["labels"])
    labels = {"needed": True, "missed": True, "not_needed": False, "fine": False}
    return labels.get(body["verdict"])


def _propensity(body: Mapping[str, Any], audited: float, *, by_itself: bool) -> float:
    if body["source"] in WEAK_SOURCES:
        return 0.0
    if body["source"] == "audit":
        return float(body.get("propensity") or audited or 0.0)
    return audited if by_itself else 1.0


def _segments(decisions: Sequence[Any], first: Any) -> list[str]:
    """Names of the segments that a conversation belongs to."""
    rules = {t["name"] for d in decisions for t in d.triggers if t["kind"] != "model"}
    segments = [f"rule {name}" for name in sorted(rules)]
    if decisions:
        hour = int(decisions[0].at // 3600) % 24 // HOURS * HOURS
        segments.append(f"team {decisions[-1].team}")
        segments.append(f"{hour:02}-{hour + HOURS:02} h UTC")
    if first is not None:
        segments.append(f"language {first.language or 'unknown'}")
        channel = (first.attributes or {}).get("channel")
        if channel is not None:
            segments.append(f"channel {channel}"[:SEGMENT_NAME_MAX])
    return segments
