"""What a person found true, recorded: an outcome row to look at, and the entry it teaches by.

The entry fixes what it teaches. Correcting and retracting append entries of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from service.outcomes.verdict import (
    BATON,
    OWN_SOURCES,
    REOPENED,
    Verdict,
    referenced_messages,
    verdict_body,
)
from service.runtime.errors import Contradiction, NotFound
from service.runtime.ids import new_id
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch, OpenConversation
from service.store.handoffs import handoff_rows
from service.store.labels import audit_rows, outcome_rows
from service.store.ledger import entries


def record_for_handoff(batch: Batch, workspace: str, name: str, found: Verdict) -> dict[str, Any]:
    """Record the outcome of a handoff."""
    row = handoff_rows.handoff(batch.connection, workspace, name)
    if row is None:
        raise NotFound("no_handoff", f"there is no handoff {name!r} in this workspace")
    batch.open(workspace, {row.conversation_id: referenced_messages(found)})
    working = batch.conversation(workspace, row.conversation_id)
    recorded = _record(batch, working, found, row._asdict())
    _prefer_agent_verdict(batch, workspace, working.id, found.agent)
    return recorded


def record_for_conversation(
    batch: Batch, workspace: str, name: str, found: Verdict
) -> dict[str, Any]:
    """Record that a conversation was missed or rightly kept, or the labels of its messages."""
    if conversation_rows.conversation(batch.connection, workspace, name) is None:
        raise NotFound("no_conversation", f"there is no conversation {name!r} in this workspace")
    batch.open(workspace, {name: referenced_messages(found)})
    return _record(batch, batch.conversation(workspace, name), found, None)


def record_for_audit(
    batch: Batch, workspace: str, audit: Mapping[str, Any], found: Verdict
) -> None:
    """Record what an audit found, unless the conversation's outcome is known already."""
    name = audit["conversation_id"]
    held = outcome_rows.current(batch.connection, workspace, name, None)
    if held is not None and held.source != "silence":
        return
    batch.open(workspace, {name: referenced_messages(found)})
    fixed = {"covers": audit["length"], "propensity": audit["propensity"]}
    _record(batch, batch.conversation(workspace, name), found, None, fixed)


def record_silence(batch: Batch, workspace: str, name: str, weight: float) -> None:
    """Nobody complained within the waiting time: weakly, no person was needed."""
    batch.open(workspace, {name: ()})
    found = Verdict("fine", "silence", BATON)
    _record(batch, batch.conversation(workspace, name), found, None, {"weight": weight})


def record_reopening(batch: Batch, workspace: str, name: str, why: str, length: int) -> None:
    """The customer came back after the end, at `length` messages, and was not settled: it had been
    missed. Nothing where somebody told what was true of it; an audit counts like at a complaint.
    """
    held = outcome_rows.current(batch.connection, workspace, name, None)
    told = held is not None and held.source not in ("audit", "silence")
    if told or _contradicted_by_handoff(batch, workspace, name, length):
        return
    batch.open(workspace, {name: ()})
    found = Verdict("missed", REOPENED, BATON, reason=why)
    _record(batch, batch.conversation(workspace, name), found, None, {"covers": length})


def _prefer_agent_verdict(batch: Batch, workspace: str, conversation: str, agent: str) -> None:
    """Who had the conversation after its customer came back knows better than Baton."""
    held = outcome_rows.current(batch.connection, workspace, conversation, None)
    if held is None or held.source != REOPENED:
        return
    entry = entries.entry(batch.connection, workspace, held.position)
    if entry is None or not _contradicted_by_handoff(
        batch, workspace, conversation, entry.body["covers"]
    ):
        return
    if entry.body["source"] == "audit":
        outcome_rows.change(batch.connection, workspace, held.id, source="audit")
    else:
        retract(batch, workspace, held.id, agent)


def _contradicted_by_handoff(batch: Batch, workspace: str, conversation: str, length: int) -> bool:
    """Whether a handoff's agent says that nobody was needed in the first `length` messages."""
    for row in outcome_rows.of_conversation(batch.connection, workspace, conversation):
        if row.handoff_id is None or row.retracted_at is not None:
            continue
        entry = entries.entry(batch.connection, workspace, row.position)
        if entry is None or not entry.body["begins"] <= length < entry.body["escalated"]:
            continue
        if row.verdict == "not_needed" or (entry.body["since"] or 0) > length:
            return True
    return False


def correct(
    batch: Batch,
    workspace: str,
    name: str,
    found: Verdict,
    team: str | None = None,
    *,
    caught: bool = False,
    fixed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Replace an outcome: the right one is learned at once, the mistaken one at a rebuild.

    A corrected review is still part of the sample, unless it was `caught` by a complaint.
    """
    row = _require_outcome(batch, workspace, name)
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
        return outcome_json(row)
    batch.open(workspace, {row["conversation_id"]: referenced_messages(found)})
    working = batch.conversation(workspace, row["conversation_id"])
    handoff = row["handoff_id"] and handoff_rows.handoff(
        batch.connection, workspace, row["handoff_id"]
    )
    body = verdict_body(batch.connection, working, found, handoff and handoff._asdict(), name)
    body["replaces"] = row["position"]
    if row["source"] == "audit" and not caught:
        found = replace(found, source="audit")
        body |= _correct_audit(batch, workspace, row["conversation_id"], found.verdict)
    body |= dict(fixed or {})
    mistaken = entries.entry(batch.connection, workspace, row["position"])
    if mistaken is not None:
        body["propensity"] = mistaken.body["propensity"]
    position = entries.append(batch.connection, workspace, "outcome", body, found.agent)
    changes = _outcome_columns(found) | {"position": position, "at": batch.now}
    outcome_rows.change(batch.connection, workspace, name, **changes)
    if handoff:
        _prefer_agent_verdict(batch, workspace, row["conversation_id"], found.agent)
    return outcome_json(row | changes)


def retract(batch: Batch, workspace: str, name: str, agent: str) -> dict[str, Any]:
    """Take an outcome back; what it taught leaves the model at the next rebuild."""
    row = _require_outcome(batch, workspace, name)
    if row["retracted_at"] is None:
        body = {
            "outcome_id": name,
            "conversation_id": row["conversation_id"],
            "replaces": row["position"],
        }
        position = entries.append(batch.connection, workspace, "retraction", body, agent)
        changes = {"retracted_at": batch.now, "position": position}
        outcome_rows.change(batch.connection, workspace, name, **changes)
        if row["source"] == "audit":
            audit_rows.request_another_review(batch.connection, workspace, row["conversation_id"])
        row |= changes
    return outcome_json(row)


def _correct_audit(batch: Batch, workspace: str, conversation: str, verdict: str) -> dict[str, Any]:
    """Correct the audit behind an outcome, too; what stays fixed in the entry."""
    audit = audit_rows.of_conversation(batch.connection, workspace, conversation)
    if audit is None:
        return {"source": "audit"}
    audit_rows.change(batch.connection, workspace, audit.id, verdict=verdict)
    return {"source": "audit", "covers": audit.length, "propensity": audit.propensity}


def outcome_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """An outcome as the API shows it."""
    hidden = ("workspace", "fingerprint")
    return {name: value for name, value in row.items() if name not in hidden}


def _record(
    batch: Batch,
    working: OpenConversation,
    found: Verdict,
    handoff: Mapping[str, Any] | None,
    fixed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    handoff_id = handoff["id"] if handoff is not None else None
    held = outcome_rows.current(batch.connection, working.workspace, working.id, handoff_id)
    if held is not None:
        adds_nothing = held.source == REOPENED and found.first_needed_message_id is None
        if found.verdict == held.verdict and (held.source == "audit" or adds_nothing):
            # Caught as well as audited: it leaves the sample, as it would have unaudited.
            outcome_rows.change(batch.connection, working.workspace, held.id, source=found.source)
            return outcome_json(held._asdict() | {"source": found.source})
        if held.fingerprint == found.fingerprint:
            return outcome_json(held._asdict())
        if held.source in OWN_SOURCES:
            name = held.id
            return correct(batch, working.workspace, name, found, caught=True, fixed=fixed)
        raise Contradiction(
            "outcome_differs",
            f"outcome {held.id!r} already says {held.verdict}",
            field="verdict",
            hint=f"correct it with PUT /v1/outcomes/{held.id}",
        )
    name = new_id("o")
    body = verdict_body(batch.connection, working, found, handoff, name) | dict(fixed or {})
    position = entries.append(batch.connection, working.workspace, "outcome", body, found.agent)
    row = {
        "id": name,
        "workspace": working.workspace,
        "conversation_id": working.id,
        "handoff_id": handoff_id,
        "position": position,
        "at": batch.now,
        "retracted_at": None,
    } | _outcome_columns(found)
    outcome_rows.add(batch.connection, row)
    return outcome_json(row)


def _outcome_columns(found: Verdict) -> dict[str, Any]:
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


def lock_targets(workspace: str, name: str) -> Callable[[Connection], dict[str, list[str]]]:
    """What a request about an outcome needs locked: the conversation it speaks of."""

    def find(connection: Connection) -> dict[str, list[str]]:
        row = outcome_rows.outcome(connection, workspace, name)
        return {} if row is None else {row.conversation_id: []}

    return find


def _require_outcome(batch: Batch, workspace: str, name: str) -> dict[str, Any]:
    row = outcome_rows.outcome(batch.connection, workspace, name)
    if row is None:
        raise NotFound("no_outcome", f"there is no outcome {name!r} in this workspace")
    return row._asdict()
