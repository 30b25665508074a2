"""Record, correct and retract outcomes (labels): a row for reading, and the ledger entry that
teaches.

The entry fixes what it teaches. Corrections and retractions append entries of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from learning.decision.policy import BotOutcomes, Policy
from learning.estimation.audit_sampling import caught_propensity
from learning.ledger.lessons import DECLINED, RESOLVED, WEAK_SOURCES
from service.handoffs.label_requests import drawn_chance
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
from service.store.conversations.batch import Batch, OpenConversation
from service.store.handoffs import handoff_rows
from service.store.labels import audit_rows, outcome_rows
from service.store.ledger import entries, outbox_rows

DAY_SECONDS = 86_400


def record_for_handoff(batch: Batch, workspace: str, name: str, verdict: Verdict) -> dict[str, Any]:
    """Record the outcome of a handoff."""
    row = handoff_rows.handoff(batch.connection, workspace, name)
    if row is None:
        raise NotFound("no_handoff", f"there is no handoff {name!r} in this workspace")
    batch.open(workspace, {row.conversation_id: referenced_messages(verdict)})
    conversation = batch.conversation(workspace, row.conversation_id)
    outcome = _record(batch, conversation, verdict, row._asdict())
    _prefer_agent_verdict(batch, workspace, conversation.id, verdict.agent)
    return outcome


def record_for_conversation(
    batch: Batch, workspace: str, name: str, verdict: Verdict
) -> dict[str, Any]:
    """Record that a conversation was missed or rightly kept, or the labels of its messages."""
    conversation = batch.require_started(workspace, name)
    batch.open(workspace, {name: referenced_messages(verdict)})
    return _record(batch, conversation, verdict, None)


def record_by_bot(
    batch: Batch, workspace: str, name: str, verdict: Verdict, terms: BotOutcomes
) -> dict[str, Any]:
    """Record what a bot's key says of a conversation: it weighs less, and beyond the day's bound
    it waits, teaching nothing (`effect`), until a person says the same.
    """
    conversation = batch.require_started(workspace, name)
    batch.open(workspace, {name: referenced_messages(verdict)})
    since = batch.now - DAY_SECONDS
    told = outcome_rows.count_since(batch.connection, workspace, verdict.agent, since)
    weight = terms.weight if told < terms.daily else 0.0
    row = _record(batch, conversation, verdict, None, {"weight": weight, "by": "bot"})
    entry = entries.entry(batch.connection, workspace, row["position"])
    teaches = entry is None or entry.body.get("weight") != 0.0
    return row | {"effect": "learned" if teaches else "waiting"}


def record_for_audit(
    batch: Batch, workspace: str, audit: Mapping[str, Any], verdict: Verdict
) -> None:
    """Record the outcome of an audit, unless a person has given one already. What was found of a
    conversation's earlier end gives way to the first review of its new one.
    """
    name = audit["conversation_id"]
    current = outcome_rows.current(batch.connection, workspace, name, None)
    gives_way = (*WEAK_SOURCES, "audit") if audit["verdict"] is None else WEAK_SOURCES
    if current is not None and current.source not in gives_way:
        return
    batch.open(workspace, {name: referenced_messages(verdict)})
    overrides = {"covers": audit["length"], "propensity": audit["propensity"]}
    _record(batch, batch.conversation(workspace, name), verdict, None, overrides)


def record_silence(batch: Batch, workspace: str, name: str, weight: float) -> None:
    """Record a weak negative (`fine`, with a weight): nobody complained within the waiting time."""
    batch.open(workspace, {name: ()})
    verdict = Verdict("fine", "silence", BATON)
    _record(batch, batch.conversation(workspace, name), verdict, None, {"weight": weight})


def record_declined(batch: Batch, workspace: str, name: str, until: int) -> None:
    """Record a weak negative: the customer declined or ignored an offered person at the place
    `until`, and nobody came. It speaks of the messages up to it, and is never counted in rates.
    """
    batch.open(workspace, {name: ()})
    verdict = Verdict("fine", DECLINED, BATON)
    conversation = batch.conversation(workspace, name)
    overrides = {"covers": until, "begins": conversation.begins}
    _record(batch, conversation, verdict, None, overrides)


def record_resolved(batch: Batch, workspace: str, name: str, weight: float) -> None:
    """Record a weak negative (`fine`, with a weight): the bot closed it as resolved."""
    batch.open(workspace, {name: ()})
    verdict = Verdict("fine", RESOLVED, BATON)
    _record(batch, batch.conversation(workspace, name), verdict, None, {"weight": weight})


def record_reopening(batch: Batch, workspace: str, name: str, why: str, length: int) -> None:
    """Record a miss that a reopening shows: the customer came back unsettled after the end, at
    `length` messages. Does nothing where a person has given an outcome; an audit's is replaced, as
    it would be by a complaint.
    """
    current = outcome_rows.current(batch.connection, workspace, name, None)
    from_person = current is not None and current.source not in ("audit", *WEAK_SOURCES)
    if from_person or _contradicted_by_handoff(batch, workspace, name, length):
        return
    batch.open(workspace, {name: ()})
    verdict = Verdict("missed", REOPENED, BATON, reason=why)
    _record(batch, batch.conversation(workspace, name), verdict, None, {"covers": length})


def _prefer_agent_verdict(batch: Batch, workspace: str, conversation: str, agent: str) -> None:
    """Retract a miss that Baton inferred from a reopening, where the agent's verdict contradicts
    it.
    """
    current = outcome_rows.current(batch.connection, workspace, conversation, None)
    if current is None or current.source != REOPENED:
        return
    entry = entries.entry(batch.connection, workspace, current.position)
    if entry is None or not _contradicted_by_handoff(
        batch, workspace, conversation, entry.body["covers"]
    ):
        return
    if entry.body["source"] == "audit":
        outcome_rows.change(batch.connection, workspace, current.id, source="audit")
    else:
        retract(batch, workspace, current.id, agent)


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
    verdict: Verdict,
    team: str | None = None,
    *,
    caught: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Correct an outcome: the new one is learned at once, the old one is unlearned at a rebuild.

    A corrected audit is still part of the random sample, unless it was `caught` by a complaint.
    Raises NotFound, and Contradiction for a retracted outcome.
    """
    row = require_outcome(batch, workspace, name)
    if row["handoff_id"] is not None:
        verdict_name = {"missed": "needed", "fine": "not_needed"}.get(
            verdict.verdict, verdict.verdict
        )
        verdict = replace(verdict, verdict=verdict_name, team=team)
    if row["retracted_at"] is not None:
        raise Contradiction(
            "outcome_retracted",
            f"outcome {name!r} was retracted",
            hint="post a new outcome for its handoff or conversation",
        )
    if row["fingerprint"] == verdict.fingerprint:
        return outcome_json(row)
    batch.open(workspace, {row["conversation_id"]: referenced_messages(verdict)})
    conversation = batch.conversation(workspace, row["conversation_id"])
    handoff = row["handoff_id"] and handoff_rows.handoff(
        batch.connection, workspace, row["handoff_id"]
    )
    body = verdict_body(
        batch.connection, conversation, verdict, handoff and handoff._asdict(), name
    )
    body["replaces"] = row["position"]
    if row["source"] == "audit" and not caught:
        verdict = replace(verdict, source="audit")
        body |= _correct_audit(batch, workspace, row["conversation_id"], verdict.verdict)
    body |= dict(overrides or {})
    replaced_entry = entries.entry(batch.connection, workspace, row["position"])
    if replaced_entry is not None and "propensity" not in (overrides or {}):
        body["propensity"] = replaced_entry.body["propensity"]
    position = entries.append(batch.connection, workspace, "outcome", body, verdict.agent)
    changes = _outcome_columns(verdict) | {"position": position, "at": batch.now}
    outcome_rows.change(batch.connection, workspace, name, **changes)
    _announce(batch, "outcome.corrected", row | changes)
    if handoff:
        _prefer_agent_verdict(batch, workspace, row["conversation_id"], verdict.agent)
    return outcome_json(row | changes)


def retract(
    batch: Batch, workspace: str, name: str, agent: str, effect: str = "at_rebuild"
) -> dict[str, Any]:
    """Retract an outcome, idempotently; `effect` says when the model has unlearned it
    (`service.outcomes.retraction` sees to that).
    """
    row = require_outcome(batch, workspace, name)
    if row["retracted_at"] is None:
        body = {
            "outcome_id": name,
            "conversation_id": row["conversation_id"],
            "replaces": row["position"],
            "effect": effect,
        }
        position = entries.append(batch.connection, workspace, "retraction", body, agent)
        changes = {"retracted_at": batch.now, "position": position}
        outcome_rows.change(batch.connection, workspace, name, **changes)
        if row["source"] == "audit":
            audit_rows.request_another_review(batch.connection, workspace, row["conversation_id"])
        row |= changes
        _announce(batch, "outcome.retracted", row)
    return outcome_json(row)


def _correct_audit(batch: Batch, workspace: str, conversation: str, verdict: str) -> dict[str, Any]:
    """Correct the audit behind an outcome, too; gives the entry's fields that stay as drawn."""
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
    conversation: OpenConversation,
    verdict: Verdict,
    handoff: Mapping[str, Any] | None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    workspace = conversation.workspace
    handoff_id = handoff["id"] if handoff is not None else None
    current = outcome_rows.current(batch.connection, workspace, conversation.id, handoff_id)
    if current is not None:
        adds_nothing = current.source == REOPENED and verdict.first_needed_message_id is None
        if verdict.verdict == current.verdict and (current.source == "audit" or adds_nothing):
            # Caught as well as audited: it leaves the sample, as it would have unaudited.
            outcome_rows.change(batch.connection, workspace, current.id, source=verdict.source)
            return outcome_json(current._asdict() | {"source": verdict.source})
        if current.fingerprint == verdict.fingerprint:
            return outcome_json(current._asdict())
        if current.source in OWN_SOURCES:
            return correct(batch, workspace, current.id, verdict, caught=True, overrides=overrides)
        raise Contradiction(
            "outcome_differs",
            f"outcome {current.id!r} already says {current.verdict}",
            field="verdict",
            hint=f"correct it with PUT /v1/outcomes/{current.id}",
        )
    return _add(batch, conversation, verdict, handoff, overrides)


def _add(
    batch: Batch,
    conversation: OpenConversation,
    verdict: Verdict,
    handoff: Mapping[str, Any] | None,
    overrides: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Add a new outcome: its ledger entry and its row."""
    name = new_id("o")
    body = verdict_body(batch.connection, conversation, verdict, handoff, name)
    asked = _asked(batch, conversation.workspace, handoff)
    body |= _caught_propensity(batch, conversation, verdict, handoff) | dict(overrides or {})
    body |= {} if asked is None else {"asked": asked}
    workspace, agent = conversation.workspace, verdict.agent
    position = entries.append(batch.connection, workspace, "outcome", body, agent)
    row = {
        "id": name,
        "workspace": workspace,
        "conversation_id": conversation.id,
        "handoff_id": body["handoff_id"],
        "position": position,
        "at": batch.now,
        "retracted_at": None,
        "asked": asked,
    } | _outcome_columns(verdict)
    outcome_rows.add(batch.connection, row)
    _announce(batch, "outcome.recorded", row)
    return outcome_json(row)


def _announce(batch: Batch, kind: outbox_rows.EventType, row: Mapping[str, Any]) -> None:
    told = ("handoff_id", "verdict", "source", "agent", "first_needed_message_id", "position")
    data = {"outcome_id": row["id"]} | {name: row[name] for name in told}
    workspace, conversation = row["workspace"], row["conversation_id"]
    outbox_rows.add(batch.connection, workspace, kind, data, conversation=conversation)


def _asked(batch: Batch, workspace: str, handoff: Mapping[str, Any] | None) -> float | None:
    """The chance with which a handoff was drawn at random to be asked about; None if it was not."""
    if handoff is None:
        return None
    policy = Policy.from_ledger(entries.newest_policy(batch.connection, workspace))
    return drawn_chance(handoff["id"], policy.questions)


def _caught_propensity(
    batch: Batch,
    conversation: OpenConversation,
    verdict: Verdict,
    handoff: Mapping[str, Any] | None,
) -> dict[str, float]:
    """With what propensity the calibrator hears of what came to light by itself."""
    if handoff is not None or verdict.labels or verdict.source in WEAK_SOURCES:
        return {}
    audit = audit_rows.of_conversation(batch.connection, conversation.workspace, conversation.id)
    drawn = None if audit is None else (audit.status != "passed", audit.propensity)
    return {"propensity": caught_propensity(drawn)}


def _outcome_columns(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.verdict,
        "first_needed_message_id": verdict.first_needed_message_id,
        "source": verdict.source,
        "agent": verdict.agent,
        "team": verdict.team,
        "reason": verdict.reason,
        "note": verdict.note,
        "fingerprint": verdict.fingerprint,
    }


def lock_targets(workspace: str, name: str) -> Callable[[Connection], dict[str, list[str]]]:
    """What a request about an outcome locks: the conversation it is about."""

    def find(connection: Connection) -> dict[str, list[str]]:
        row = outcome_rows.outcome(connection, workspace, name)
        return {} if row is None else {row.conversation_id: []}

    return find


def require_outcome(batch: Batch, workspace: str, name: str) -> dict[str, Any]:
    """An outcome's row; NotFound."""
    row = outcome_rows.outcome(batch.connection, workspace, name)
    if row is None:
        raise NotFound("no_outcome", f"there is no outcome {name!r} in this workspace")
    return row._asdict()
