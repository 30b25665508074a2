"""What a person found true, recorded: an outcome row to look at, and the entry it teaches by.

The entry fixes what it teaches. Correcting and retracting append entries of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from service import handoffs
from service.batch import Batch, Working, fingerprint, new_id
from service.errors import Contradiction, Invalid, Missing
from service.store import audits as audit_rows
from service.store import conversations, ledger
from service.store import handoffs as handoff_rows
from service.store import outcomes as rows


@dataclass(frozen=True, slots=True)
class Found:
    """A verdict as it was posted. `labels` are (message id, label, weight)."""

    verdict: str
    source: str
    agent: str
    first_needed_message_id: str | None = None
    team: str | None = None
    reason: str | None = None
    note: str | None = None
    labels: tuple[tuple[str, float, float], ...] = ()

    @property
    def fingerprint(self) -> str:
        said = (self.verdict, self.first_needed_message_id, self.team, self.reason, self.note)
        return fingerprint([*said, [list(label) for label in self.labels]])


def of_handoff(batch: Batch, workspace: str, name: str, found: Found) -> dict[str, Any]:
    """Record the outcome of a handoff."""
    row = handoff_rows.handoff(batch.connection, workspace, name)
    if row is None:
        raise Missing("no_handoff", f"there is no handoff {name!r} in this workspace")
    batch.open(workspace, {row.conversation_id: _named(found)})
    working = batch.conversation(workspace, row.conversation_id)
    return _record(batch, working, found, row._asdict())


def of_conversation(batch: Batch, workspace: str, name: str, found: Found) -> dict[str, Any]:
    """Record that a conversation was missed or rightly kept, or the labels of its messages."""
    if conversations.conversation(batch.connection, workspace, name) is None:
        raise Missing("no_conversation", f"there is no conversation {name!r} in this workspace")
    batch.open(workspace, {name: _named(found)})
    return _record(batch, batch.conversation(workspace, name), found, None)


def of_audit(batch: Batch, workspace: str, audit: Mapping[str, Any], found: Found) -> None:
    """Record what an audit found, unless the conversation's outcome is known already."""
    name = audit["conversation_id"]
    held = rows.standing_for(batch.connection, workspace, name, None)
    if held is not None and held.source != "silence":
        return
    batch.open(workspace, {name: _named(found)})
    fixed = {"covers": audit["length"], "propensity": audit["propensity"]}
    _record(batch, batch.conversation(workspace, name), found, None, fixed)


def of_silence(batch: Batch, workspace: str, name: str, weight: float) -> None:
    """Nobody complained within the waiting time: weakly, no person was needed."""
    batch.open(workspace, {name: ()})
    found = Found("fine", "silence", "baton")
    _record(batch, batch.conversation(workspace, name), found, None, {"weight": weight})


def correct(
    batch: Batch,
    workspace: str,
    name: str,
    found: Found,
    team: str | None = None,
    *,
    caught: bool = False,
) -> dict[str, Any]:
    """Replace an outcome: the right one is learned at once, the mistaken one at a rebuild.

    A corrected review is still part of the sample, unless it was `caught` by a complaint.
    """
    row = _existing(batch, workspace, name)
    if row["handoff_id"] is not None:
        verdict = {"missed": "needed", "fine": "not_needed"}.get(found.verdict, found.verdict)
        found = replace(found, verdict=verdict, team=team)
    if row["retracted_at"] is not None:
        raise Contradiction(
            "outcome_retracted",
            f"outcome {name!r} was retracted",
            hint="post a new outcome for its handoff or conversation",
        )
    if row["fingerprint"] == found.fingerprint:
        return shown(row)
    batch.open(workspace, {row["conversation_id"]: _named(found)})
    working = batch.conversation(workspace, row["conversation_id"])
    handoff = row["handoff_id"] and handoff_rows.handoff(
        batch.connection, workspace, row["handoff_id"]
    )
    body = _body(batch.connection, working, found, handoff and handoff._asdict(), name)
    body["replaces"] = row["position"]
    if row["source"] == "audit" and not caught:
        found = replace(found, source="audit")
        body |= _reviewed(batch, workspace, row["conversation_id"], found.verdict)
    mistaken = ledger.entry(batch.connection, workspace, row["position"])
    if mistaken is not None:
        body["propensity"] = mistaken.body["propensity"]
    position = ledger.append(batch.connection, workspace, "outcome", body, found.agent)
    changes = _columns(found) | {"position": position, "at": batch.now}
    rows.change(batch.connection, workspace, name, **changes)
    return shown(row | changes)


def retract(batch: Batch, workspace: str, name: str, agent: str) -> dict[str, Any]:
    """Take an outcome back; what it taught leaves the model at the next rebuild."""
    row = _existing(batch, workspace, name)
    if row["retracted_at"] is None:
        body = {
            "outcome_id": name,
            "conversation_id": row["conversation_id"],
            "replaces": row["position"],
        }
        position = ledger.append(batch.connection, workspace, "retraction", body, agent)
        changes = {"retracted_at": batch.now, "position": position}
        rows.change(batch.connection, workspace, name, **changes)
        if row["source"] == "audit":
            audit_rows.review_again(batch.connection, workspace, row["conversation_id"])
        row |= changes
    return shown(row)


def _reviewed(batch: Batch, workspace: str, conversation: str, verdict: str) -> dict[str, Any]:
    """Correct the audit behind an outcome, too; what stays fixed in the entry."""
    audit = audit_rows.of_conversation(batch.connection, workspace, conversation)
    if audit is None:
        return {"source": "audit"}
    audit_rows.change(batch.connection, workspace, audit.id, verdict=verdict)
    return {"source": "audit", "covers": audit.length, "propensity": audit.propensity}


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """An outcome as the API shows it."""
    hidden = ("workspace", "fingerprint")
    return {name: value for name, value in row.items() if name not in hidden}


def _record(
    batch: Batch,
    working: Working,
    found: Found,
    handoff: Mapping[str, Any] | None,
    fixed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    handoff_id = handoff["id"] if handoff is not None else None
    held = rows.standing_for(batch.connection, working.workspace, working.id, handoff_id)
    if held is not None:
        if held.source == "audit" and found.verdict == held.verdict:
            # Caught as well as audited: it leaves the sample, as it would have unaudited.
            rows.change(batch.connection, working.workspace, held.id, source=found.source)
            return shown(held._asdict() | {"source": found.source})
        if held.fingerprint == found.fingerprint:
            return shown(held._asdict())
        if held.source in ("audit", "silence"):
            return correct(batch, working.workspace, held.id, found, caught=True)
        raise Contradiction(
            "outcome_differs",
            f"outcome {held.id!r} already says {held.verdict}",
            field="verdict",
            hint=f"correct it with PUT /v1/outcomes/{held.id}",
        )
    name = new_id("o")
    body = _body(batch.connection, working, found, handoff, name) | dict(fixed or {})
    position = ledger.append(batch.connection, working.workspace, "outcome", body, found.agent)
    row = {
        "id": name,
        "workspace": working.workspace,
        "conversation_id": working.id,
        "handoff_id": handoff_id,
        "position": position,
        "at": batch.now,
        "retracted_at": None,
    } | _columns(found)
    rows.add(batch.connection, row)
    return shown(row)


def _columns(found: Found) -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        "first_needed_message_id": found.first_needed_message_id,
        "source": found.source,
        "agent": found.agent,
        "team": found.team,
        "reason": found.reason,
        "note": found.note,
        "fingerprint": found.fingerprint,
    }


def _body(
    connection: Connection,
    working: Working,
    found: Found,
    handoff: Mapping[str, Any] | None,
    name: str,
) -> dict[str, Any]:
    """The ledger entry's body (see `learning.ledger.Entry`)."""
    since = found.first_needed_message_id
    last = handoff["seq"] if handoff is not None else working.length
    return {
        "outcome_id": name,
        "conversation_id": working.id,
        "handoff_id": handoff["id"] if handoff is not None else None,
        "verdict": found.verdict,
        "begins": handoff["begins"] if handoff is not None else 1,
        "covers": last,
        "escalated": handoff["seq"] if handoff is not None else None,
        "since": None if since is None else _place(working, since, last, "first_needed_message_id"),
        "labels": [
            (_scored_place(working, message), label, weight)
            for message, label, weight in found.labels
        ],
        "source": found.source,
        "agent": found.agent,
        "propensity": 1.0,
        "by_rule": bool(handoff is not None and handoff["by_rule"]),
    } | handoffs.whose_work(connection, found.team, found.verdict, handoff)


def _place(working: Working, message: str, last: int, field: str) -> int:
    known = working.known.get(message)
    if known is None:
        raise Invalid(
            "unknown_message",
            f"conversation {working.id!r} has no message {message!r}",
            field=field,
            hint=f"GET /v1/conversations/{working.id} lists its messages",
        )
    if known.seq > last:
        raise Invalid(
            "message_after_handoff",
            f"message {message!r} came after the handoff this outcome is about",
            field=field,
            hint="name the message that first needed a person, up to the escalating one",
        )
    return int(known.seq)


def _scored_place(working: Working, message: str) -> int:
    place = _place(working, message, working.length, "labels")
    if not working.known[message].scored:
        raise Invalid(
            "message_not_scored",
            f"message {message!r} was not scored, so a label teaches nothing",
            field="labels",
            hint="label only messages that went through POST /v1/score",
        )
    return place


def _named(found: Found) -> Sequence[str]:
    first = [found.first_needed_message_id] if found.first_needed_message_id else []
    return first + [message for message, _, _ in found.labels]


def whose(workspace: str, name: str) -> Callable[[Connection], dict[str, list[str]]]:
    """What a request about an outcome needs locked: the conversation it speaks of."""

    def find(connection: Connection) -> dict[str, list[str]]:
        row = rows.outcome(connection, workspace, name)
        return {} if row is None else {row.conversation_id: []}

    return find


def _existing(batch: Batch, workspace: str, name: str) -> dict[str, Any]:
    row = rows.outcome(batch.connection, workspace, name)
    if row is None:
        raise Missing("no_outcome", f"there is no outcome {name!r} in this workspace")
    return row._asdict()
