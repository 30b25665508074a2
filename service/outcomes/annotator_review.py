"""Annotator quality: every verdict updates a per-agent test of label reliability (run by `jobs`).

An agent whose evidence crosses the bar is reported as an event, with the evidence and the commands
that would undo the harm. No label is excluded automatically: an engineer decides.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Connection

from learning.annotators.annotator import Annotator, Verdict
from learning.annotators.panel import AnnotatorPanel
from learning.decision.policy import AcceptanceRates, Policy
from learning.estimation.audit_sampling import kappa
from learning.estimation.rate_intervals import under_drift
from learning.ledger.model_state import Entry, Exclusions
from service.store.database.isolation import isolate_errors
from service.store.database.transactions import Store
from service.store.labels import annotator_rows, audit_rows
from service.store.ledger import change_log, version_rows
from service.store.ledger import entries as ledger

ENTRIES_MAX = 500
"""Most ledger entries, and most reviews, that one transaction reads of a workspace."""

SETTLED_SECONDS = 3.0
"""Reviews are read this long after they were written: no earlier transaction is open by then."""

HANDOFF, REVIEW = "handoff", "review"
TOLD, TOLD_BY_BOT = "told", "told by a bot"
"""Verdicts that nobody asked for are no sample: times alone are compared, bots' with bots'."""
_NEEDED = {"needed": True, "not_needed": False, "missed": True, "fine": False, "unknowable": None}
_BEHAVIOUR_SENTENCES = {
    "needed": "finds a person needed nearly always",
    "not_needed": "finds a person needed nearly never",
    "opposite": "judges against what others find and what the model expects",
    "chance": "judges at random",
    "contradicts": "contradicts colleagues who reviewed the same conversations",
    "mostly contradicts": "contradicts colleagues who reviewed the same conversations",
    "often quick": "answers much sooner than others",
    "always quick": "answers nearly always much sooner than others",
}
_log = structlog.get_logger("baton.raters")


@dataclass(slots=True)
class AnnotatorState:
    """The panel's state, the time of each agent's last verdict, and cursors of what was read."""

    panel: AnnotatorPanel = field(default_factory=AnnotatorPanel)
    last_at: dict[str, float] = field(default_factory=dict)
    review_cursor: list[Any] = field(default_factory=lambda: [0.0, "", ""])
    position: int = 0

    @classmethod
    def of(cls, row: Any) -> AnnotatorState:
        if row is None:
            return cls()
        state = row.state
        panel = AnnotatorPanel.load(state["raters"])
        return cls(panel, dict(state["last"]), list(state["reviewed"]), row.position)

    def state(self) -> dict[str, Any]:
        return {"raters": self.panel.dump(), "last": self.last_at, "reviewed": self.review_cursor}

    def time_spent(self, agent: str, at: float, claimed_at: float | None) -> float | None:
        """Upper bound of the seconds spent on a verdict: since the claim and since the agent's
        last.
        """
        since = max(self.last_at.get(agent, 0.0), claimed_at or 0.0)
        self.last_at[agent] = max(at, self.last_at.get(agent, 0.0))
        return max(0.0, at - since) if since else None


class AnnotatorMonitor:
    """Updates the annotator panel of each workspace with the verdicts since the last pass."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def review_annotators(self) -> None:
        """One pass over all workspaces; an error in one is logged and does not stop the others."""
        with self._store.read() as connection:
            names = ledger.workspaces(connection)
        for name in names:
            with isolate_errors(name):
                while self.review_workspace(name, time.time() - SETTLED_SECONDS):
                    pass

    def review_workspace(self, workspace: str, until: float) -> bool:
        """Read a bounded number of verdicts in one transaction; whether there are more."""
        with self._store.read() as connection:
            workspace_row = ledger.workspace(connection, workspace)
            row = annotator_rows.panel_state(connection, workspace)
            after = [0.0, "", ""] if row is None else row.state["reviewed"]
            unread = annotator_rows.reviews(connection, workspace, after, until, 1)
        if workspace_row is None or (
            row is not None and row.position == workspace_row.head and not unread
        ):
            return False
        with self._store.write() as connection:
            row = annotator_rows.panel_state(connection, workspace, lock=True)
            state = AnnotatorState.of(row)
            entries = ledger.tail(connection, workspace, state.position, ENTRIES_MAX)
            suspects = _learn_outcomes(connection, workspace, state, entries)
            reviews = annotator_rows.reviews(
                connection, workspace, state.review_cursor, until, ENTRIES_MAX
            )
            suspects += _learn_reviews(connection, workspace, state, reviews)
            annotator_rows.save_panel_state(
                connection, workspace, state.position, state.state(), fresh=row is None
            )
            for name in suspects:
                facts = _suspicion_facts(connection, workspace, name, state.panel.by_name[name])
                change_log.add(connection, workspace, "agent_suspected", facts)
                _log.warning("agent_suspected", workspace=workspace, **facts)
        return ENTRIES_MAX in (len(entries), len(reviews))


def _learn_outcomes(
    connection: Connection, workspace: str, state: AnnotatorState, entries: list[Entry]
) -> list[str]:
    """Update the panel with the outcomes of these entries; gives the newly suspected agents."""
    new_outcomes = [e for e in entries if e.kind == "outcome" and not e.body.get("replaces")]
    handoff_ids = [e.body["handoff_id"] for e in new_outcomes if e.body["handoff_id"] is not None]
    handoffs = (
        annotator_rows.handoff_decisions(connection, workspace, handoff_ids) if handoff_ids else {}
    )
    accepting = Policy.from_ledger(ledger.newest_policy(connection, workspace)).accepting
    suspects = []
    for entry in entries:
        state.position = entry.position
        body = entry.body
        if body.get("replaces"):
            first = ledger.entry(connection, workspace, body["replaces"])
            if first is not None and _is_rated(first) and first.body["agent"] != entry.actor:
                state.panel.correct(first.body["agent"])
        elif entry.kind == "outcome" and body.get("by") == "bot":
            seconds = state.time_spent(body["agent"], entry.at, None)
            if state.panel.time(body["agent"], TOLD_BY_BOT, seconds, entry.position):
                suspects.append(body["agent"])
        elif entry.kind == "outcome" and body["source"] == "agent":
            agent, handoff = body["agent"], handoffs.get(body["handoff_id"])
            claimed_at = None
            if handoff is not None and handoff.claimed_by == agent:
                claimed_at = handoff.claimed_at
            seconds = state.time_spent(agent, entry.at, claimed_at)
            if handoff is None or handoff.probability is None or body["verdict"] not in _NEEDED:
                suspected = state.panel.time(agent, TOLD, seconds, entry.position)
            else:
                verdict = _handoff_verdict(entry, handoff, accepting, seconds)
                suspected = state.panel.learn(verdict)
            suspects += [agent] if suspected else []
    return suspects


def _is_rated(entry: Entry) -> bool:
    """Whether an outcome is somebody's whose labels are looked at: a person's, or a bot's."""
    return entry.body.get("source") in ("agent", "audit") or entry.body.get("by") == "bot"


def _handoff_verdict(
    entry: Entry, handoff: Any, accepting: AcceptanceRates, seconds: float | None
) -> Verdict:
    """A handoff's outcome as a verdict, compared with others of the same rule or, where the model
    decided, of the same probability; for an accepted offer that is P(needed | accepted), by Bayes'
    rule with the policy's acceptance rates.
    """
    agent, needed, p = entry.body["agent"], _NEEDED[entry.body["verdict"]], handoff.probability
    rules = sorted(t["name"] for t in handoff.triggers if t["kind"] != "model")
    if rules:
        kind = f"rule {rules[0]}"
        return Verdict(agent, HANDOFF, kind, p, needed, seconds, entry.position, graded=False)
    kind = "escalated by the model"
    if handoff.action == "offer":
        yes, no = p * accepting.needed, (1 - p) * accepting.unneeded
        kind, p = "offered and accepted", yes / (yes + no) if yes + no else p
    return Verdict(agent, HANDOFF, kind, p, needed, seconds, entry.position)


def _learn_reviews(
    connection: Connection, workspace: str, state: AnnotatorState, reviews: Any
) -> list[str]:
    """Update the panel with reviews, and with the agreement of two reviews of one audit; gives the
    newly suspected agents.
    """
    suspects = []
    for row in reviews:
        state.review_cursor = [row.at, row.audit_id, row.reviewer]
        seconds = state.time_spent(row.reviewer, row.at, None)
        verdict = _review_verdict(row, row, state, seconds)
        if state.panel.learn(verdict):
            suspects.append(verdict.agent)
        for other in audit_rows.reviews(connection, workspace, row.audit_id):
            if (other.at, other.reviewer) < (row.at, row.reviewer) and other.verdict in _NEEDED:
                suspects += state.panel.pair(verdict, _review_verdict(other, row, state, None))
    return suspects


def _review_verdict(review: Any, row: Any, state: AnnotatorState, seconds: float | None) -> Verdict:
    """A review as a verdict. Audited cases are drawn at random, so they are all of one kind."""
    at = row.position or state.position
    needed = _NEEDED[review.verdict]
    return Verdict(review.reviewer, REVIEW, REVIEW, row.probability, needed, seconds, at)


def _suspicion_facts(
    connection: Connection, workspace: str, agent: str, annotator: Annotator
) -> dict[str, Any]:
    behaviour, since = annotator.leading
    return {
        "agent": agent,
        "sentence": f"{agent} {_BEHAVIOUR_SENTENCES[behaviour]}, it seems since ledger "
        f"position {since}; after {annotator.judged} verdicts this is no chance (an honest agent "
        f"comes here once in {annotator.bar:.0f}). Ask them, and look at some of their "
        "conversations, first.",
        "behaviour": behaviour,
        "since_position": since,
        "verdicts": annotator.judged,
        "evidence": annotator.evidence,
        "bar": annotator.bar,
        "commands": repair_commands(connection, workspace, agent, since),
    }


def repair_commands(
    connection: Connection, workspace: str, agent: str, since: int
) -> dict[str, str]:
    """The commands that undo the harm: a rollback to a checkpoint before it (`at_once`), and a
    rebuild without the agent (`repair`).
    """
    switch = ledger.switches(connection, workspace)[-1]
    workspace_option = "" if workspace == "default" else f" --workspace {shlex.quote(workspace)}"
    quoted_agent = shlex.quote(agent)
    commands = {
        "repair": f"baton rebuild --without-agent {quoted_agent} --promote{workspace_option}"
    }
    line = version_rows.of_line(connection, workspace, switch.position, since - 1)
    if line:
        reason = shlex.quote(f"labels of {agent} are doubted")
        commands["at_once"] = (
            f"baton rollback --to {line[0].number} --reason {reason}{workspace_option}"
        )
    return commands


def annotators_json(connection: Connection, workspace: str) -> dict[str, Any]:
    """Statistics and evidence of each agent, the most suspicious first. Reads only."""
    state = AnnotatorState.of(annotator_rows.panel_state(connection, workspace))
    switch = ledger.switches(connection, workspace)[-1]
    without = Exclusions.of(switch.body["without"])
    agents = [
        _annotator_json(connection, workspace, name, annotator, state.panel)
        | {"left_out": name == without.agent}
        for name, annotator in state.panel.by_name.items()
    ]
    agents.sort(key=lambda row: (-row["evidence"] / row["bar"], row["agent"]))
    return {
        "agents": agents,
        "position": state.position,
        "beyond": state.panel.beyond,
        "usual_seconds": {work: state.panel.usual_seconds(work) for work in (HANDOFF, REVIEW)},
        "why": None if agents else "no agent has given a verdict that jobs have looked at yet",
    }


def _annotator_json(
    connection: Connection, workspace: str, name: str, annotator: Annotator, panel: AnnotatorPanel
) -> dict[str, Any]:
    neither, other, mine, both = annotator.pairs
    pairs = [(False, False)] * neither + [(False, True)] * other
    pairs += [(True, False)] * mine + [(True, True)] * both
    judged = annotator.judged
    rate = under_drift(annotator.needed, judged) if judged else None
    row: dict[str, Any] = {
        "agent": name,
        "verdicts": judged,
        "unknowable": annotator.unknowable,
        "told_unasked": annotator.told,
        "corrected_by_others": annotator.corrected,
        "needed": None if rate is None else {"rate": rate.rate, "low": rate.low, "high": rate.high},
        "expected": annotator.expected / judged if judged else None,
        "beyond_expected": (annotator.needed - annotator.expected) / judged if judged else None,
        "beyond_expected_recently": annotator.recent if judged else None,
        "double_reviews": {"both": len(pairs), "agreed": neither + both, "kappa": kappa(pairs)},
        "speed": {
            "others_usual_seconds": panel.usual_seconds(HANDOFF, name),
            "much_quicker": annotator.quick,
            "of": annotator.timed,
        },
        "evidence": annotator.evidence,
        "bar": annotator.bar,
        "suspected": None,
    }
    if annotator.suspected_at is not None:
        facts = _suspicion_facts(connection, workspace, name, annotator)
        fields = ("sentence", "behaviour", "since_position", "commands")
        row["suspected"] = {key: facts[key] for key in fields} | {
            "position": annotator.suspected_at,
            "after_verdicts": annotator.suspected_after,
        }
    return row
