"""Rates by segment (rule, team, language, version, time) with confidence intervals, and the reasons
where a rate is unknown.

A conversation is in one segment of each dimension, and in the segment of each trigger that fired in
it. Each interval is anytime-valid and holds while the rate drifts, for one segment by itself: there
is no correction for many segments. Where a figure cannot be known, `unknown` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection

from learning.decision.policy import Costs
from learning.estimation.rate_intervals import (
    NO_RATE,
    Rate,
    effective_size,
    missed_rate,
    under_drift,
)
from service.store.reports import segment_counts

VERDICTS = ("needed", "not_needed", "unknowable", "pending")
HANDOFF_FIGURES = (*VERDICTS, "false_escalation_rate", "false_escalation_rate_of_all")
NO_TRIGGER = "nothing fired"
"""Segment of the conversations in which neither a rule nor the model spoke for a person."""

SPANS = (600.0, 3600.0, 4 * 3600.0, 86_400.0, 7 * 86_400.0, 28 * 86_400.0)
"""Seconds that a time span may have; weeks begin on Mondays, UTC."""

MONDAY = 4 * 86_400.0
SPANS_MAX = 40


@dataclass(slots=True)
class Segment:
    """Counts of a segment, under the names of `service.store.reports.segment_counts`.

    `late` were kept and missed, and are open again or escalated: the missed rate includes them.
    `own_verdicts` are those of its handoffs, `handed_verdicts` of those in its conversations: not
    the same where a conversation went to two teams or versions, or a rule fired that handed nothing
    over. `drawn_verdicts` are those of its handoffs that were drawn at random to be asked about,
    each with its chance.
    """

    all: int = 0
    closed: int = 0
    escalated: int = 0
    kept: int = 0
    late: int = 0
    caught: int = 0
    found_missed: int = 0
    found_fine: int = 0
    unknowable: int = 0
    pending: int = 0
    weight: float = 0.0
    squares: float = 0.0
    weight_missed: float = 0.0
    caught_by: Counter[str] = field(default_factory=Counter)
    own_verdicts: Counter[str] = field(default_factory=Counter)
    handed_verdicts: Counter[str] = field(default_factory=Counter)
    drawn_verdicts: Counter[tuple[str, float]] = field(default_factory=Counter)

    @property
    def ever_kept(self) -> int:
        """Kept conversations, the denominator of the missed rate."""
        return self.kept + self.late

    @property
    def automation(self) -> Rate:
        """Automation rate: the share kept of the conversations that were kept to their end or
        handed over.
        """
        return _share_with_interval(self.kept, self.kept + self.escalated)

    @property
    def false(self) -> Rate:
        """False escalation rate: the share not needed of its judged handoffs."""
        return _false_rate(self.own_verdicts)

    @property
    def false_of_all(self) -> Rate:
        """The false escalation rate of all its handoffs, judged or not: where some are pending, by
        the answers of those that were drawn at random to be asked about.
        """
        if not self.own_verdicts["pending"]:
            return self.false
        judged = {
            key: count
            for key, count in self.drawn_verdicts.items()
            if key[0] in ("needed", "not_needed")
        }
        weight = sum(count / chance for (_, chance), count in judged.items())
        squares = sum(count / chance**2 for (_, chance), count in judged.items())
        false = sum(n / chance for (verdict, chance), n in judged.items() if verdict != "needed")
        size, count = effective_size(weight, squares, false)
        return under_drift(count, size) if size else NO_RATE

    @property
    def missed(self) -> Rate:
        """Missed escalation rate: the share of its kept conversations that needed a person,
        estimated from the audits.
        """
        sample = effective_size(self.weight, self.squares, self.weight_missed)
        return missed_rate(self.ever_kept, self.caught, *sample)

    def rates(self, costs: Costs) -> dict[str, Any]:
        """All rates of the segment as JSON."""
        counts = ("all", "closed", "escalated", "kept")
        rates = {
            "conversations": {name: getattr(self, name) for name in counts},
            "automation_rate": asdict(self.automation),
            **self.verdicts_json(),
            "missed": self.missed_json(),
            "cost": self.cost(costs),
        }
        return rates | {"unknown": self._unknown(rates)}

    def add_handoffs(self, row: Any) -> None:
        """Count handoffs of its own."""
        verdict = row.verdict or "pending"
        self.own_verdicts[verdict] += row.total
        if row.asked is not None:
            self.drawn_verdicts[verdict, row.asked] += row.total

    def verdicts_json(self) -> dict[str, Any]:
        """Verdicts of its handoffs; pending and unknowable ones are in no denominator."""
        counts = {name: self.own_verdicts[name] for name in VERDICTS}
        rates = {
            "false_escalation_rate": self.false,
            "false_escalation_rate_of_all": self.false_of_all,
        }
        return counts | {name: asdict(rate) for name, rate in rates.items()}

    def missed_json(self) -> dict[str, Any]:
        """The missed rate and its sample as JSON; `why` it is unknown, where it is.

        Caught misses are no sample: they enter as a known stratum.
        """
        missed = self.missed
        return asdict(missed) | {
            "kept_conversations": self.ever_kept,
            "caught": self.caught,
            "caught_by": dict(sorted(self.caught_by.items())),
            "audits_answered": self.found_missed + self.found_fine,
            "audits_found_missed": self.found_missed,
            "audits_pending": self.pending,
            "audits_unknowable": self.unknowable,
            "why": self._why_no_missed() if missed.rate is None else None,
        }

    def cost(self, costs: Costs) -> dict[str, Any]:
        """Cost of mistakes per ended conversation, in the unit of the policy's costs.

        Handoffs not judged yet are assumed to be like those that are. Both intervals are of 95 %,
        so the sum's holds with at least 90 % (Bonferroni).
        """
        ended, handoffs = self.kept + self.escalated, self.handed_verdicts.total()
        missed, false = self.missed, _false_rate(self.handed_verdicts)
        cost: dict[str, Any] = {"unit": costs.model_dump(mode="json"), "conversations": ended}
        for name, missing in (("rate", None), ("low", 0.0), ("high", 1.0)):
            shares = [
                (costs.missed * self.ever_kept, getattr(missed, name) if self.ever_kept else 0.0),
                (costs.unneeded * handoffs, getattr(false, name) if handoffs else 0.0),
            ]
            terms = [(weight, missing if x is None else x) for weight, x in shares]
            total = None
            if ended and all(x is not None for _, x in terms):
                total = sum(weight * (x or 0.0) for weight, x in terms) / ended
            cost["per_conversation" if name == "rate" else name] = total
        return cost

    def _unknown(self, rates: dict[str, Any]) -> dict[str, str]:
        """Reasons why figures are unknown, by their names."""
        why = {"missed": rates["missed"]["why"]} if rates["missed"]["why"] else {}
        if rates["automation_rate"]["rate"] is None:
            why["automation_rate"] = "none of these conversations is over yet"
        if rates["false_escalation_rate"]["rate"] is None:
            reason = (
                "no handoff of these is judged yet" if self.own_verdicts else "there was no handoff"
            )
            why["false_escalation_rate"] = reason
        if rates["cost"]["per_conversation"] is None:
            missing = "missed" if "missed" in why and self.ever_kept else "false escalation"
            ended = self.kept + self.escalated
            why["cost"] = (
                f"the {missing} rate is not known" if ended else "none of these is over yet"
            )
        return why

    def _why_no_missed(self) -> str:
        if self.ever_kept:
            return "no audit is answered yet, so the rate is not known"
        if self.escalated:
            return "all that are over were handed to a person: none was kept that could be missed"
        return "none of these conversations was kept and closed yet"


def _false_rate(verdicts: Counter[str]) -> Rate:
    return _share_with_interval(verdicts["not_needed"], verdicts["needed"] + verdicts["not_needed"])


def _share_with_interval(count: int, total: int) -> Rate:
    """A share with an interval that is anytime-valid, also under drift."""
    return under_drift(count, total) if total else NO_RATE


_COUNTED = frozenset(Segment.__dataclass_fields__) - {
    "caught_by",
    "own_verdicts",
    "handed_verdicts",
    "drawn_verdicts",
}

SegmentKey = Callable[[Any], Sequence[str]]


@dataclass(frozen=True, slots=True)
class SegmentCounts:
    """Row counts by segment key: `counted` of conversations, audits and caught misses, and
    `handoffs`.
    """

    counted: Sequence[Any]
    handoffs: Sequence[Any]

    @classmethod
    def of(
        cls, connection: Connection, workspace: str, by: segment_counts.GroupBy, since: float
    ) -> SegmentCounts:
        counted = [
            row
            for ask in (segment_counts.conversations, segment_counts.caught, segment_counts.audited)
            for row in ask(connection, workspace, by, since)
        ]
        return cls(counted, segment_counts.handoffs(connection, workspace, by, since))

    def by_segment(self, keys: SegmentKey, own: SegmentKey | None = None) -> dict[str, Segment]:
        """Sum the rows by segment; `own` gives the segments of a handoff itself."""
        segments: dict[str, Segment] = {}
        for row in self.counted:
            for key in keys(row):
                _add(segments.setdefault(key, Segment()), row)
        for row in self.handoffs:
            verdict = row.verdict or "pending"
            for key in keys(row):
                segments.setdefault(key, Segment()).handed_verdicts[verdict] += row.total
            for key in (own or keys)(row):
                segments.setdefault(key, Segment()).add_handoffs(row)
        return segments

    @property
    def start_range(self) -> tuple[float, float]:
        """When the first and the last conversation began; 0 where there is none."""
        rows = [row for row in self.counted if "first" in row._mapping]
        first = min((row.first for row in rows), default=0.0)
        return first, max((row.last for row in rows), default=0.0)

    def total(self) -> Segment:
        return self.by_segment(lambda _: ("",)).get("", Segment())


def _add(segment: Segment, row: Any) -> None:
    for name, value in row._mapping.items():
        if name in _COUNTED:
            setattr(segment, name, getattr(segment, name) + value)
    if "source" in row._mapping:
        segment.caught_by[row.source] += row.caught


def count_segments(connection: Connection, workspace: str, since: float = 0.0) -> SegmentCounts:
    """Count all conversations by rule, team, language and version."""
    return SegmentCounts.of(connection, workspace, segment_counts.SEGMENT_COLUMNS, since)


def by_dimension(counts: SegmentCounts, costs: Costs) -> dict[str, dict[str, Any]]:
    """The rates by rule, team, language and version.

    A handoff is its team's, its version's, and that of the triggers of its decision. A kept
    conversation is of the team that its last decision named: the default team where none did.
    """
    dimensions = {
        "by_rule": counts.by_segment(
            lambda row: _trigger_keys(row.fired), lambda row: (row.own_fired or "").split()
        ),
        "by_team": counts.by_segment(
            lambda row: _key_or_unknown(row.team), lambda row: _key_or_unknown(row.own_team)
        ),
        "by_language": counts.by_segment(lambda row: _key_or_unknown(row.language)),
        "by_version": counts.by_segment(
            lambda row: _key_or_unknown(row.version), lambda row: _key_or_unknown(row.own_version)
        ),
    }
    return {
        name: {key: segments[key].rates(costs) for key in sorted(segments, key=_sort_key)}
        for name, segments in dimensions.items()
    }


def _trigger_keys(names: str | None) -> Sequence[str]:
    return (names or "").split() or (NO_TRIGGER,)


def _sort_key(key: str) -> tuple[int, str]:
    return (int(key), "") if key.isdecimal() else (0, key)


def _key_or_unknown(value: str | int | None) -> Sequence[str]:
    return ("unknown",) if value is None else (str(value),)


def over_time(
    connection: Connection,
    workspace: str,
    costs: Costs,
    since: float,
    until: float,
    spans: Iterable[float] = SPANS,
) -> dict[str, Any]:
    """Time series of the rates by when conversations began, the oldest first.

    Its span is the shortest of `spans` of which SPANS_MAX reach from one moment to the other. Those
    in which nothing began are left out.
    """
    lengths = sorted(spans)
    seconds = next((x for x in lengths if (until - since) / x < SPANS_MAX - 1), lengths[-1])
    counts = SegmentCounts.of(connection, workspace, segment_counts.by_span(seconds, MONDAY), since)
    segments = counts.by_segment(lambda row: (f"{int(row.span)}",))
    return {
        "span_seconds": seconds,
        "points": [
            {"at": MONDAY + number * seconds} | segments[str(number)].rates(costs)
            for number in sorted(map(int, segments))
        ],
    }
