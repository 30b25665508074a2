"""Running figures of a simulation, updated from many threads."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from rich.table import Table

from learning.decision.policy import Costs
from learning.measures.scores import measures

COSTS = Costs()
"""What mistakes and offers cost, by the default policy."""

FIRST, EVERY = 25, 100
"""The trail of losses has one after so many lessons, and then after every further hundred."""

NEWEST = 200
"""Lessons, and verdicts, that count as the newest."""

RECENT = 500
"""Decisions over which ranking is compared with the simulation's hidden truth."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a play. A share or measure of nothing is None.

    `lessons` are those that speak for or against the model: none of what a rule escalated.
    `log_loss` and `auc` are of the newest 200, test-then-learn: the probability that the service
    gave at the time, and the label that the outcome taught; `losses` is that log loss as it was
    after 25, 100 and every further 100 lessons. `truth_auc` and `truth_log_loss` compare the
    newest 500 decisions with the truth that only the simulation knows, so no selection is in them,
    nor is any error of agents; `truth_losses` are those of each full block of 500. `missed_rate`
    is of the conversations never handed over the share that had come to need a person, by that
    truth; `cost` is what decisions cost a conversation by that truth and the default policy's
    costs; `false_escalation_rate` is by the agents' verdicts, `false_escalation_rate_newest` by
    their newest 200. `version` and `position` are those of the newest decision, or, with an
    engineer's key, of the service itself.
    """

    conversations: int
    decisions: int
    seconds: float
    decisions_per_second: float
    escalations: int
    offers: int
    accepted: int
    handoffs: int
    outcomes: int
    lessons: int
    false_escalation_rate: float | None
    false_escalation_rate_newest: float | None
    automation_rate: float | None
    missed_rate: float | None
    cost: float | None
    losses: tuple[float, ...]
    log_loss: float | None
    auc: float | None
    truth_auc: float | None
    truth_log_loss: float | None
    truth_losses: tuple[float, ...]
    version: int
    position: int
    complete: bool

    def json(self) -> dict[str, Any]:
        return asdict(self)


class Scoreboard:
    """Thread-safe accumulator of decisions, outcomes and conversations."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._counts = Counter[str]()
        self._losses: list[float] = []
        self._lessons = deque[tuple[float, float]](maxlen=NEWEST)
        self._verdicts = deque[bool](maxlen=NEWEST)
        self._truth_losses: list[float] = []
        self._truth = deque[tuple[float, float]](maxlen=RECENT)
        self._newest_model = (0, 0)
        self._let_down: set[int] = set()

    @property
    def conversations(self) -> int:
        return self._counts["conversations"]

    def add_decision(self, decision: Mapping[str, Any], truth: int) -> None:
        """A decision of the service, and whether a person was needed then."""
        with self._lock:
            self._counts["decisions"] += 1
            self._counts[decision["action"]] += 1
            # Answers of many threads come in any order; the ledger's position only grows.
            self._newest_model = max(
                self._newest_model, (decision["position"], decision["version"])
            )
            if decision["probability"] is not None:
                self._truth.append((decision["probability"], float(truth)))
                self._counts["scored"] += 1
                if self._counts["scored"] % RECENT == 0:
                    self._truth_losses.append(_measures(self._truth)["log_loss"])

    def count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def add_handoff(self, needed: bool) -> None:
        """A conversation is handed over, and whether it then needed a person, by the truth."""
        with self._lock:
            self._counts["handoffs"] += 1
            self._counts["needless"] += not needed

    def add_kept(self, conversation: int, needed: bool) -> None:
        """A conversation ended, for the first time or again, and no person had it."""
        if needed:
            with self._lock:
                self._let_down.add(conversation)

    def add_ended(self, handed_over: bool, needed: bool) -> None:
        """A conversation is over; `needed` says whether one that was kept should not have been."""
        with self._lock:
            self._counts["conversations"] += 1
            self._counts["kept"] += not handed_over
            self._counts["missed"] += needed and not handed_over

    def add_outcome(self, verdict: str, lessons: Sequence[tuple[float, float]]) -> None:
        """An outcome was posted: its lessons as (probability at the time, label)."""
        with self._lock:
            self._counts["outcomes"] += 1
            self._counts[f"verdict {verdict}"] += 1
            if verdict in ("needed", "not_needed"):
                self._verdicts.append(verdict == "not_needed")
            for lesson in lessons:
                self._lessons.append(lesson)
                self._counts["lessons"] += 1
                if self._counts["lessons"] == FIRST or self._counts["lessons"] % EVERY == 0:
                    self._losses.append(_measures(self._lessons)["log_loss"])

    def summary(self, complete: bool = False) -> Summary:
        with self._lock:
            n = Counter(self._counts)
            newest, truth = _measures(self._lessons), _measures(self._truth)
            seconds = time.monotonic() - self._began
            position, version = self._newest_model
            verdicts = n["verdict needed"] + n["verdict not_needed"]
            return Summary(
                conversations=n["conversations"],
                decisions=n["decisions"],
                seconds=round(seconds, 3),
                decisions_per_second=round(n["decisions"] / seconds, 1) if seconds else 0.0,
                escalations=n["escalate"],
                offers=n["offer"],
                accepted=n["accepted"],
                handoffs=n["handoffs"],
                outcomes=n["outcomes"],
                lessons=n["lessons"],
                false_escalation_rate=_share(n["verdict not_needed"], verdicts),
                false_escalation_rate_newest=_share(sum(self._verdicts), len(self._verdicts)),
                automation_rate=_share(n["kept"], n["conversations"]),
                missed_rate=_share(n["missed"], n["kept"]),
                cost=self._cost(n),
                losses=tuple(self._losses),
                log_loss=newest.get("log_loss"),
                auc=newest.get("auc"),
                truth_auc=truth.get("auc"),
                truth_log_loss=truth.get("log_loss"),
                truth_losses=tuple(self._truth_losses),
                version=version,
                position=position,
                complete=complete,
            )

    def _cost(self, n: Counter[str]) -> float | None:
        if not n["conversations"]:
            return None
        mistakes = COSTS.missed * len(self._let_down) + COSTS.unneeded * n["needless"]
        return (mistakes + COSTS.ask * n["offer"]) / n["conversations"]


def _measures(pairs: Sequence[tuple[float, float]] | deque[tuple[float, float]]) -> Any:
    return measures([p for p, _ in pairs], [y for _, y in pairs])


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def table(summary: Summary) -> Table:
    """The summary as people read it while it plays."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", min_width=23)
    grid.add_column(justify="right", min_width=12)
    grid.add_column()
    newest = _percent(summary.false_escalation_rate_newest)
    rows = (
        (
            "conversations",
            f"{summary.conversations}",
            f"{_percent(summary.automation_rate)} by the bot",
        ),
        ("decisions", f"{summary.decisions}", f"{summary.decisions_per_second:.0f} a second"),
        (
            "escalated, offered",
            f"{summary.escalations}, {summary.offers}",
            f"{summary.accepted} accepted",
        ),
        (
            "outcomes learned",
            f"{summary.outcomes}",
            f"from {summary.handoffs} handoffs and later word",
        ),
        ("false escalations", _percent(summary.false_escalation_rate), f"newest 200: {newest}"),
        ("missed", _percent(summary.missed_rate), "of those kept, by the hidden truth"),
        ("cost a conversation", _number(summary.cost), "of misses, needless handoffs, offers"),
        ("log loss of lessons", _number(summary.log_loss), trail(summary.losses)),
        ("log loss, hidden truth", _number(summary.truth_log_loss), trail(summary.truth_losses)),
        ("AUC of lessons", _number(summary.auc), "of handoffs mostly: the doubtful"),
        ("AUC, hidden truth", _number(summary.truth_auc), "of every message"),
        ("version, position", f"{summary.version}, {summary.position}", "of the ledger, learned"),
    )
    for name, value, remark in rows:
        grid.add_row(name, f"[bold]{value}[/]", f"[dim]{remark}[/]")
    return grid


def line(summary: Summary) -> str:
    """The summary in one line, for logs."""
    return (
        f"{summary.conversations} conversations, {summary.decisions} decisions "
        f"({summary.decisions_per_second:.0f}/s), {summary.escalations} escalations, "
        f"{summary.offers} offers, false escalations {_percent(summary.false_escalation_rate)}, "
        f"log loss {_number(summary.log_loss)} (all messages {_number(summary.truth_log_loss)}), "
        f"AUC {_number(summary.auc)} (all messages {_number(summary.truth_auc)}), "
        f"version {summary.version}, position {summary.position}"
    )


def trail(losses: Sequence[float], most: int = 6) -> str:
    """Course of the loss, neighbouring blocks averaged to at most so many: .62 > .48 > .41"""
    groups = min(most, len(losses))
    edges = [len(losses) * place // groups for place in range(groups + 1)] if groups else []
    parts = [losses[start:end] for start, end in pairwise(edges)]
    return " > ".join(f"{sum(part) / len(part):.2f}" for part in parts)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
