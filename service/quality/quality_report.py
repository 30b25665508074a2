"""Quality report of automation and handoffs: rates with honest denominators.

Every handoff has exactly one of the outcomes needed, not needed, unknowable, pending. Only the
first two are divided by; the others are shown beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from learning.decision.policy import Policy
from learning.estimation import inferred_labels
from learning.estimation.audit_sampling import kappa
from learning.text.language import coverage
from service.policy import offer_acceptance, rule_suggestions
from service.quality import segment_rates
from service.store.labels import audit_rows, inferred_rows
from service.store.reports import counts as figures

OUT_OF_REACH_MAX = 0.05
"""Of more conversations without any chance of an audit it is warned."""

LARGE = 5000
"""Conversations from which on a slow report may be cached."""


LANGUAGES_MAX = 50
"""Most languages that are named, the most frequent."""


def is_large(report: dict[str, Any]) -> bool:
    """Whether a report covers so much that it may be cached."""
    return bool(report["conversations"]["all"] >= LARGE)


def quality(connection: Connection, workspace: str, policy: Policy) -> dict[str, Any]:
    """The quality report of a workspace as JSON; the model's own measures are its versions'."""
    counts = segment_rates.count_segments(connection, workspace)
    report = figures.last_report(connection, workspace) or {}
    totals = counts.total().rates(policy.costs)
    outcomes = {name: totals[name] for name in segment_rates.HANDOFF_FIGURES}
    return {
        "conversations": totals["conversations"],
        "automation_rate": totals["automation_rate"],
        "missed": totals["missed"],
        "cost": totals["cost"],
        "unknown": totals["unknown"],
        "audits": _audits(connection, workspace),
        "handoffs": {
            "by_status": _sum_by_name((row.status, row.total) for row in counts.handoffs),
            "outcomes": outcomes,
            "by_cause": _by_cause(counts),
        },
        **segment_rates.by_dimension(counts, policy.costs),
        "over_time": segment_rates.over_time(
            connection, workspace, policy.costs, *counts.start_range
        ),
        "accepting": offer_acceptance.acceptance_report(connection, workspace, policy),
        **rule_suggestions.rule_report(connection, workspace, policy),
        "inferred": inferred_labels.report(inferred_rows.counts(connection, workspace)),
        "languages": _languages(connection, workspace),
        "rules_only": _rules_only(report),
        "drift": report.get("drift"),
        "decisions": [row._asdict() for row in figures.actions(connection, workspace)],
    }


def _by_cause(counts: segment_rates.SegmentCounts) -> dict[str, Any]:
    segments = {name: segment_rates.Segment() for name in ("rule", "model", "bot", "person")}
    for row in counts.handoffs:
        by_decision = "rule" if row.by_rule else "model"
        cause = by_decision if row.opened_by == "decision" else row.opened_by
        segments[cause].add_handoffs(row)
    return {name: segment.verdicts_json() for name, segment in segments.items()}


def _languages(connection: Connection, workspace: str) -> dict[str, Any]:
    """Conversations by what is recognised in their language: danger and all else, requests for a
    person only, nothing; and those whose language is not known.
    """
    by_coverage: dict[str, int] = {"all": 0, "requests": 0, "none": 0, "unknown": 0}
    not_covered: dict[str, int] = {}
    for row in figures.languages(connection, workspace):
        covered = "unknown" if row.spoken is None else coverage(row.spoken)
        by_coverage[covered] += row.total
        if covered == "none":
            not_covered[row.spoken] = row.total
    largest = sorted(not_covered, key=lambda code: (-not_covered[code], code))[:LANGUAGES_MAX]
    return by_coverage | {"not_covered": {code: not_covered[code] for code in largest}}


_RULES_ONLY = ("rules only", "rules only, holdout")
_RULES_FIGURES = ("conversations", "cost_per_conversation", "more_than_champion", "escalated")


def _rules_only(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What rules alone cost by the last evaluation, each way by its source: bounds from what the
    model decided, and the conversations that were held out from it.
    """
    beside = (report.get("beside") or {}).get("recent") or {}
    return [
        {"source": row.get("source", "bounds"), "held_out": row.get("held_out")}
        | {name: row[name] for name in _RULES_FIGURES}
        for row in (beside[name] for name in _RULES_ONLY if name in beside)
    ]


def _audits(connection: Connection, workspace: str) -> dict[str, Any]:
    sample = audit_rows.uniform_sample(connection, workspace)
    doubles = audit_rows.double_reviews(connection, workspace)
    return {
        "conversations_tossed": sample.tossed,
        "out_of_reach": sample.out_of_reach,
        "warning": _reach_warning(sample.out_of_reach, sample.tossed),
        "drawn_uniformly": sample.drawn,
        "drawn_for_learning": sample.targeted,
        "double_reviewed": len(doubles),
        "kappa": kappa(doubles),
    }


def _reach_warning(out_of_reach: int, sampled: int) -> str | None:
    """What a spent budget hides, where it is much."""
    if out_of_reach <= OUT_OF_REACH_MAX * sampled:
        return None
    return (
        f"{out_of_reach} of {sampled} kept conversations had no chance to be drawn, as the day's "
        "audits were spent: the missed rate does not speak of them; raise audits.per_day or lower "
        "audits.uniform_share"
    )


def _sum_by_name(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for name, count in pairs:
        sums[name] += count
    return dict(sums)
