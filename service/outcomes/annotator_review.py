"""The review of agents: `jobs` fold every verdict into what is known of who gave it.

A suspicion is told at once, as an event with the evidence and the commands that would undo the
harm. Nothing is left out by itself: an engineer asks first, and decides.
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
from service.store.database.transactions import Store
from service.store.labels import annotator_rows, audit_rows
from service.store.ledger import change_log, version_rows
from service.store.ledger import entries as ledger

ENTRIES_MAX = 500
"""Most ledger entries, and most reviews, that one pass takes in of a workspace."""

SETTLED_SECONDS = 3.0
"""Reviews are taken in after this time: no transaction that began earlier is still open then."""

HANDOFF, REVIEW = "handoff", "review"
_NEEDED = {"needed": True, "not_needed": False, "missed": True, "fine": False, "unknowable": None}
_BEHAVIOUR_SENTENCES = {
    "needed": "finds a person needed nearly always",
    "not_needed": "finds a person needed nearly never",
    "opposite": "judges against what others find and what the model expects",
    "chance": "judges as by the toss of a coin",
    "contradicts": "contradicts colleagues who reviewed the same conversations",
    "mostly contradicts": "contradicts colleagues who reviewed the same conversations",
    "often quick": "answers much sooner than others",
    "always quick": "answers nearly always much sooner than others",
}
_log = structlog.get_logger("baton.raters")


@dataclass(slots=True)
class AnnotatorState:
    """The fold: what is known of agents, when each last said something, and how far it came."""

    raters: AnnotatorPanel = field(default_factory=AnnotatorPanel)
    last: dict[str, float] = field(default_factory=dict)
    reviewed: list[Any] = field(default_factory=lambda: [0.0, "", ""])
    position: int = 0

    @classmethod
    def of(cls, row: Any) -> AnnotatorState:
        if row is None:
            return cls()
        state = row.state
        raters = AnnotatorPanel.load(state["raters"])
        return cls(raters, dict(state["last"]), list(state["reviewed"]), row.position)

    def state(self) -> dict[str, Any]:
        return {"raters": self.raters.dump(), "last": self.last, "reviewed": self.reviewed}

    def seconds(self, agent: str, at: float, claimed_at: float | None) -> float | None:
        """What the agent can have spent on it at most: since the claim, and since their last."""
        since = max(self.last.get(agent, 0.0), claimed_at or 0.0)
        self.last[agent] = max(at, self.last.get(agent, 0.0))
        return max(0.0, at - since) if since else None


class AnnotatorMonitor:
    """Takes in what agents said since the last pass, in each workspace."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def look(self) -> None:
        """One pass; what breaks in one workspace holds up no other."""
        with self._store.read() as connection:
            names = ledger.workspaces(connection)
        for name in names:
            try:
                while self.one(name, time.time() - SETTLED_SECONDS):
                    pass
            except LookupError:
                _log.exception("workspace_broke", workspace=name)

    def one(self, workspace: str, until: float) -> bool:
        """A bounded piece, in one transaction; whether there is more."""
        with self._store.read() as connection:
            found = ledger.workspace(connection, workspace)
            row = annotator_rows.panel_state(connection, workspace)
            after = [0.0, "", ""] if row is None else row.state["reviewed"]
            news = annotator_rows.reviews(connection, workspace, after, until, 1)
        if found is None or (row is not None and row.position == found.head and not news):
            return False
        with self._store.write() as connection:
            row = annotator_rows.panel_state(connection, workspace, lock=True)
            known = AnnotatorState.of(row)
            entries = ledger.tail(connection, workspace, known.position, ENTRIES_MAX)
            suspects = _learn_outcomes(connection, workspace, known, entries)
            answered = annotator_rows.reviews(
                connection, workspace, known.reviewed, until, ENTRIES_MAX
            )
            suspects += _learn_reviews(connection, workspace, known, answered)
            annotator_rows.save_panel_state(
                connection, workspace, known.position, known.state(), fresh=row is None
            )
            for name in suspects:
                facts = _suspicion_facts(connection, workspace, name, known.raters.by_name[name])
                change_log.add(connection, workspace, "agent_suspected", facts)
                _log.warning("agent_suspected", workspace=workspace, **facts)
        return ENTRIES_MAX in (len(entries), len(answered))


def _learn_outcomes(
    connection: Connection, workspace: str, known: AnnotatorState, entries: list[Entry]
) -> list[str]:
    """Take in the verdicts of these entries; gives whom they make suspected."""
    fresh = [e for e in entries if e.kind == "outcome" and not e.body.get("replaces")]
    named = [e.body["handoff_id"] for e in fresh if e.body["handoff_id"] is not None]
    handoffs = annotator_rows.handoff_decisions(connection, workspace, named) if named else {}
    accepting = Policy.model_validate(ledger.newest_policy(connection, workspace)).accepting
    suspects = []
    for entry in entries:
        known.position = entry.position
        body = entry.body
        if body.get("replaces"):
            first = ledger.entry(connection, workspace, body["replaces"])
            of_a_person = first is not None and first.body.get("source") in ("agent", "audit")
            if first is not None and of_a_person and first.body["agent"] != entry.actor:
                known.raters.correct(first.body["agent"])
        elif entry.kind == "outcome" and body["source"] == "agent":
            agent, handoff = body["agent"], handoffs.get(body["handoff_id"])
            claimed_at = None
            if handoff is not None and handoff.claimed_by == agent:
                claimed_at = handoff.claimed_at
            seconds = known.seconds(agent, entry.at, claimed_at)
            if handoff is None or handoff.probability is None or body["verdict"] not in _NEEDED:
                suspected = known.raters.time(agent, "told", seconds, entry.position)
            else:
                verdict = _handoff_verdict(entry, handoff, accepting, seconds)
                suspected = known.raters.learn(verdict)
            suspects += [agent] if suspected else []
    return suspects


def _handoff_verdict(
    entry: Entry, handoff: Any, accepting: AcceptanceRates, seconds: float | None
) -> Verdict:
    """A handoff's outcome as a verdict, compared with others of the same rule; where the model
    spoke, of the same probability. Who accepts an offer needs a person more often than the model
    could know.
    """
    agent, said, p = entry.body["agent"], _NEEDED[entry.body["verdict"]], handoff.probability
    rules = sorted(t["name"] for t in handoff.triggers if t["kind"] != "model")
    if rules:
        kind = f"rule {rules[0]}"
        return Verdict(agent, HANDOFF, kind, p, said, seconds, entry.position, graded=False)
    kind = "escalated by the model"
    if handoff.action == "offer":
        yes, no = p * accepting.needed, (1 - p) * accepting.unneeded
        kind, p = "offered and accepted", yes / (yes + no) if yes + no else p
    return Verdict(agent, HANDOFF, kind, p, said, seconds, entry.position)


def _learn_reviews(
    connection: Connection, workspace: str, known: AnnotatorState, answered: Any
) -> list[str]:
    """Take in reviews, and where an audit has two, what they say of each other."""
    suspects = []
    for row in answered:
        known.reviewed = [row.at, row.audit_id, row.reviewer]
        seconds = known.seconds(row.reviewer, row.at, None)
        mine = _review_verdict(row, row, known, seconds)
        if known.raters.learn(mine):
            suspects.append(mine.agent)
        for other in audit_rows.reviews(connection, workspace, row.audit_id):
            if (other.at, other.reviewer) < (row.at, row.reviewer) and other.verdict in _NEEDED:
                suspects += known.raters.pair(mine, _review_verdict(other, row, known, None))
    return suspects


def _review_verdict(review: Any, row: Any, known: AnnotatorState, seconds: float | None) -> Verdict:
    """A review as a verdict. None of what the audits drew is anybody's own kind of case."""
    at = row.position or known.position
    said = _NEEDED[review.verdict]
    return Verdict(review.reviewer, REVIEW, REVIEW, row.probability, said, seconds, at)


def _suspicion_facts(
    connection: Connection, workspace: str, agent: str, rater: Annotator
) -> dict[str, Any]:
    behaviour, since = rater.leading
    return {
        "agent": agent,
        "sentence": f"{agent} {_BEHAVIOUR_SENTENCES[behaviour]}, it seems since ledger position "
        f"{since}; after {rater.judged} verdicts this is no chance (an honest agent comes here once in "
        f"{rater.bar:.0f}). Ask them, and look at some of their conversations, first.",
        "behaviour": behaviour,
        "since_position": since,
        "verdicts": rater.judged,
        "evidence": rater.evidence,
        "bar": rater.bar,
        "commands": repair_commands(connection, workspace, agent, since),
    }


def repair_commands(
    connection: Connection, workspace: str, agent: str, since: int
) -> dict[str, str]:
    """What undoes the harm: at once, by serving what stood before it; and exactly."""
    switch = ledger.switches(connection, workspace)[-1]
    place = "" if workspace == "default" else f" --workspace {shlex.quote(workspace)}"
    who = shlex.quote(agent)
    found = {"repair": f"baton rebuild --without-agent {who} --promote{place}"}
    line = version_rows.of_line(connection, workspace, switch.position, since - 1)
    if line:
        reason = shlex.quote(f"labels of {agent} are doubted")
        found["at_once"] = f"baton rollback --to {line[0].number} --reason {reason}{place}"
    return found


def annotators_json(connection: Connection, workspace: str) -> dict[str, Any]:
    """Each agent's figures and evidence, the most suspicious first; asking changes nothing."""
    known = AnnotatorState.of(annotator_rows.panel_state(connection, workspace))
    switch = ledger.switches(connection, workspace)[-1]
    without = Exclusions.of(switch.body["without"])
    agents = [
        _annotator_json(connection, workspace, name, rater, known.raters)
        | {"left_out": name == without.agent}
        for name, rater in known.raters.by_name.items()
    ]
    agents.sort(key=lambda one: (-one["evidence"] / one["bar"], one["agent"]))
    return {
        "agents": agents,
        "position": known.position,
        "beyond": known.raters.beyond,
        "usual_seconds": {work: known.raters.usual_seconds(work) for work in (HANDOFF, REVIEW)},
        "why": None if agents else "no agent has given a verdict that jobs have looked at yet",
    }


def _annotator_json(
    connection: Connection, workspace: str, name: str, rater: Annotator, raters: AnnotatorPanel
) -> dict[str, Any]:
    neither, other, mine, both = rater.pairs
    pairs = [(False, False)] * neither + [(False, True)] * other
    pairs += [(True, False)] * mine + [(True, True)] * both
    judged = rater.judged
    rate = under_drift(rater.needed, judged) if judged else None
    found: dict[str, Any] = {
        "agent": name,
        "verdicts": judged,
        "unknowable": rater.unknowable,
        "told_unasked": rater.told,
        "corrected_by_others": rater.corrected,
        "needed": None if rate is None else {"rate": rate.rate, "low": rate.low, "high": rate.high},
        "expected": rater.expected / judged if judged else None,
        "beyond_expected": (rater.needed - rater.expected) / judged if judged else None,
        "beyond_expected_recently": rater.recent if judged else None,
        "double_reviews": {"both": len(pairs), "agreed": neither + both, "kappa": kappa(pairs)},
        "speed": {
            "others_usual_seconds": raters.usual_seconds(HANDOFF, name),
            "much_quicker": rater.quick,
            "of": rater.timed,
        },
        "evidence": rater.evidence,
        "bar": rater.bar,
        "suspected": None,
    }
    if rater.suspected_at is not None:
        facts = _suspicion_facts(connection, workspace, name, rater)
        kept = ("sentence", "behaviour", "since_position", "commands")
        found["suspected"] = {key: facts[key] for key in kept} | {
            "position": rater.suspected_at,
            "after_verdicts": rater.suspected_after,
        }
    return found
