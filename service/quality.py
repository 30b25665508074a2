"""How well automation and hand-over do, with honest denominators.

Every handoff stands in exactly one of: needed, not needed, unknowable, pending. Only the first two
are divided by; the others are shown beside them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from learning.audit import kappa
from learning.estimates import NOTHING, effective, missed_rate, proportion, under_drift
from learning.policy import Costs, Policy
from service import offers, suggestions
from service.store import audits, figures


def quality(connection: Connection, workspace: str, policy: Policy) -> dict[str, Any]:
    """Counts and rates of a workspace; the model's own measures are its versions'."""
    counts = figures.conversations(connection, workspace)
    handoffs = figures.handoffs(connection, workspace)
    caught = {row.verdict: row.total for row in figures.caught(connection, workspace)}
    teams = sorted({row.team for row in handoffs})
    missed = missed_of(counts.kept, caught, audits.sample(connection, workspace))
    outcomes = _outcomes(handoffs)
    return {
        "conversations": counts._asdict(),
        "automation_rate": asdict(proportion(counts.all - counts.escalated, counts.all)),
        "missed": missed,
        "cost": _cost(counts, missed, outcomes, policy.costs),
        "audits": _audits(connection, workspace),
        "handoffs": {
            "by_status": _summed((row.status, row.total) for row in handoffs),
            "outcomes": outcomes,
            "by_team": {t: _outcomes([row for row in handoffs if row.team == t]) for t in teams},
            "by_cause": {
                "rule": _outcomes([row for row in handoffs if row.by_rule]),
                "model": _outcomes([row for row in handoffs if not row.by_rule]),
            },
        },
        **_by_trigger_and_version(connection, workspace),
        **_missed_by(connection, workspace),
        "accepting": offers.answered(connection, workspace, policy),
        **suggestions.of_rules(connection, workspace, policy),
        "drift": _drift(connection, workspace),
        "decisions": [row._asdict() for row in figures.actions(connection, workspace)],
    }


def missed_of(kept: int, caught: dict[str, int], sample: Any) -> dict[str, Any]:
    """The missed escalation rate, by the uniform audits and the misses that were caught.

    Caught misses are no sample: they enter as a known stratum. The interval holds at every look,
    also while the rate drifts.
    """
    answered = sample.missed + sample.fine
    known = caught.get("missed", 0)
    found = missed_rate(kept, known, *effective(*_sums([sample])))
    return asdict(found) | {
        "kept_conversations": kept,
        "caught": known,
        "audits_answered": answered,
        "audits_found_missed": sample.missed,
        "audits_pending": sample.pending,
        "audits_unknowable": sample.unknowable,
        "why": None if answered else "no audit is answered yet, so the rate is not known",
    }


def _cost(
    counts: Any, missed: dict[str, Any], outcomes: dict[str, Any], costs: Costs
) -> dict[str, Any]:
    """What mistakes cost per conversation that is over, in the unit of the policy's costs.

    Handoffs that are not judged yet are taken to be like those that are. Both intervals are of
    95 %, so the sum's holds with 90 % at least.
    """
    judged = outcomes["needed"] + outcomes["not_needed"]
    over = counts.kept + judged + outcomes["pending"] + outcomes["unknowable"]
    false = outcomes["false_escalation_rate"]
    found: dict[str, Any] = {"unit": costs.model_dump(mode="json"), "conversations": over}
    for name, missing in (("rate", None), ("low", 0.0), ("high", 1.0)):
        shares = [
            (costs.missed * counts.kept, missed[name] if counts.kept else 0.0),
            (costs.unneeded * (over - counts.kept), false[name] if over > counts.kept else 0.0),
        ]
        known = [missing if share is None else share for _, share in shares]
        paid = None
        if None not in known and over:
            paid = sum(w * (s or 0.0) for (w, _), s in zip(shares, known, strict=True)) / over
        found["per_conversation" if name == "rate" else name] = paid
    return found


def _missed_by(connection: Connection, workspace: str) -> dict[str, Any]:
    """The missed rate by the version that kept a conversation, and by its language; false
    escalations by language. Conversations that closed in the last seconds are not in it yet.
    """
    parts = audits.parts(connection, workspace)
    judged = figures.by_language(connection, workspace)
    languages = sorted({row.language or "unknown" for row in (*parts, *judged)})
    versions = sorted({row.version for row in parts})
    by_language = {}
    for name in languages:
        counts = Counter({"needed": 0, "not_needed": 0})
        for row in judged:
            if (row.language or "unknown") == name:
                counts[row.verdict] += row.total
        kept = [row for row in parts if (row.language or "unknown") == name]
        by_language[name] = _judged(counts) | {"missed": _part(kept)}
    return {
        "by_language": by_language,
        "missed_by_version": {
            str(version): _part([row for row in parts if row.version == version])
            for version in versions
        },
    }


def _part(rows: list[Any]) -> dict[str, Any]:
    kept, caught = sum(row.kept for row in rows), sum(row.caught for row in rows)
    found = missed_rate(kept, caught, *effective(*_sums(rows)))
    return asdict(found) | {
        "kept_conversations": kept,
        "audits_answered": sum(row.missed + row.fine for row in rows),
    }


def _sums(rows: list[Any]) -> tuple[float, float, float]:
    """The sums of weights that `estimates.effective` takes."""
    weight, squares, missed = (
        math.fsum(getattr(row, name) for row in rows)
        for name in ("weight", "squares", "weight_missed")
    )
    return weight, squares, missed


def _drift(connection: Connection, workspace: str) -> dict[str, Any] | None:
    """What the last evaluation found of drift; None before the first."""
    found: dict[str, Any] | None = (figures.last_report(connection, workspace) or {}).get("drift")
    return found


def _audits(connection: Connection, workspace: str) -> dict[str, Any]:
    sample = audits.sample(connection, workspace)
    doubles = audits.doubles(connection, workspace)
    return {
        "conversations_tossed": sample.tossed,
        "drawn_uniformly": sample.drawn,
        "drawn_for_learning": sample.targeted,
        "double_reviewed": len(doubles),
        "kappa": kappa(doubles),
    }


def _outcomes(rows: Iterable[Any]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row.verdict or "pending"] += row.total
    needed, unneeded = counts["needed"], counts["not_needed"]
    return {
        "needed": needed,
        "not_needed": unneeded,
        "unknowable": counts["unknowable"],
        "pending": counts["pending"],
        "false_escalation_rate": _rate(unneeded, needed + unneeded),
    }


def _by_trigger_and_version(connection: Connection, workspace: str) -> dict[str, Any]:
    by_trigger: dict[str, Counter[str]] = {}
    by_version: dict[int, Counter[str]] = {}
    for row in figures.judged(connection, workspace):
        by_version.setdefault(row.version, Counter())[row.verdict] += 1
        for trigger in row.triggers:
            by_trigger.setdefault(trigger["name"], Counter())[row.verdict] += 1
    return {
        "by_rule": {name: _judged(counts) for name, counts in sorted(by_trigger.items())},
        "by_version": {str(name): _judged(counts) for name, counts in sorted(by_version.items())},
    }


def _judged(counts: Counter[str]) -> dict[str, Any]:
    among = counts["needed"] + counts["not_needed"]
    return dict(counts) | {"false_escalation_rate": _rate(counts["not_needed"], among)}


def _rate(count: int, among: int) -> dict[str, Any]:
    """A share of what was judged so far; its interval holds at every look, and under drift."""
    return asdict(under_drift(count, among) if among else NOTHING)


def _summed(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for name, count in pairs:
        found[name] += count
    return dict(found)
