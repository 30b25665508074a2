"""Retention queries: old conversations' text and decisions, and surplus checkpoints, for
deletion.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, select, update

from service.store.conversations import original_rows, reopening_rows
from service.store.database.transactions import table
from service.store.tables import (
    Alias,
    Audit,
    Conversation,
    Decision,
    Handoff,
    Judgement,
    LedgerRow,
    MessageRow,
    Note,
    Outcome,
    Review,
    Version,
)

_alias = table(Alias)
_audit = table(Audit)
_conversation = table(Conversation)
_decision = table(Decision)
_handoff = table(Handoff)
_judgement = table(Judgement)
_ledger = table(LedgerRow)
_message = table(MessageRow)
_outcome = table(Outcome)
_note = table(Note)
_review = table(Review)
_version = table(Version)
REMOVED = "removed"


def _is_over(cutoff: float) -> ColumnElement[bool]:
    """Conversations without activity since a moment, without an open handoff or audit."""
    waiting_audit = select(_audit.c.id).where(
        _audit.c.workspace == _conversation.c.workspace,
        _audit.c.conversation_id == _conversation.c.id,
        _audit.c.status == "waiting",
    )
    return and_(
        _conversation.c.last_at < cutoff,
        _conversation.c.handoff_id.is_(None),
        _conversation.c.status != REMOVED,
        ~waiting_audit.exists(),
    )


def removable_conversations(
    connection: Connection, workspace: str, cutoff: float, learned: int, most: int
) -> Sequence[str]:
    """Conversations that are over, and whose outcomes were all learned up to position `learned`."""
    later = select(_outcome.c.id).where(
        _outcome.c.workspace == _conversation.c.workspace,
        _outcome.c.conversation_id == _conversation.c.id,
        _outcome.c.position > learned,
    )
    query = select(_conversation.c.id).where(
        _conversation.c.workspace == workspace, _is_over(cutoff), ~later.exists()
    )
    return connection.execute(query.order_by(_conversation.c.id).limit(most)).scalars().all()


def oldest_decision(connection: Connection, workspace: str, cutoff: float) -> int | None:
    """The first ledger position at which a decision that is kept was made."""
    joined = and_(
        _conversation.c.workspace == _decision.c.workspace,
        _conversation.c.id == _decision.c.conversation_id,
    )
    position: int | None = connection.execute(
        select(func.min(_decision.c.position))
        .select_from(_decision.join(_conversation, joined))
        .where(_decision.c.workspace == workspace, ~_is_over(cutoff))
    ).scalar_one()
    return position


def removed_up_to(connection: Connection, workspace: str) -> int:
    """The last ledger position whose text has been removed; 0 if all is there."""
    joined = and_(
        _conversation.c.workspace == _outcome.c.workspace,
        _conversation.c.id == _outcome.c.conversation_id,
        _conversation.c.status == REMOVED,
    )
    position: int | None = connection.execute(
        select(func.max(_outcome.c.position))
        .select_from(_outcome.join(_conversation, joined))
        .where(_outcome.c.workspace == workspace)
    ).scalar_one()
    bodies = connection.execute(
        select(_ledger.c.body).where(_ledger.c.workspace == workspace, _ledger.c.kind == "erasure")
    ).scalars()
    erased = [outcome for body in bodies for outcome in body["replaces_all"]]
    return int(max(position or 0, *erased, 0))


def remove_text(connection: Connection, workspace: str, conversations: Collection[str]) -> None:
    """Delete messages, decisions, judgements and notes, and the free text of handoffs and outcomes;
    the conversation's row and its verdict stay.
    """
    names = list(conversations)
    for rows in (_message, _decision, _judgement, _note):
        connection.execute(
            delete(rows).where(rows.c.workspace == workspace, rows.c.conversation_id.in_(names))
        )
    original_rows.remove(connection, workspace, names)
    reopening_rows.close_open(connection, workspace, names)
    connection.execute(
        update(_outcome)
        .where(_outcome.c.workspace == workspace, _outcome.c.conversation_id.in_(names))
        .values(note=None, reason=None, fingerprint=REMOVED)
    )
    connection.execute(
        update(_handoff)
        .where(_handoff.c.workspace == workspace, _handoff.c.conversation_id.in_(names))
        .values(opening_note=None)
    )
    audit_ids = select(_audit.c.id).where(
        _audit.c.workspace == workspace, _audit.c.conversation_id.in_(names)
    )
    connection.execute(update(_review).where(_review.c.audit_id.in_(audit_ids)).values(note=None))
    connection.execute(
        update(_conversation)
        .where(_conversation.c.workspace == workspace, _conversation.c.id.in_(names))
        .values(status=REMOVED)
    )


def close_audit(connection: Connection, workspace: str, conversation: str, now: float) -> None:
    """Close a waiting audit as unknowable: it can no longer be reviewed."""
    connection.execute(
        update(_audit)
        .where(
            _audit.c.workspace == workspace,
            _audit.c.conversation_id == conversation,
            _audit.c.status == "waiting",
        )
        .values(status="answered", verdict="unknowable", answered_at=now, offered_to=None)
    )


def outcome_positions(connection: Connection, workspace: str, conversation: str) -> list[int]:
    """The ledger positions of this conversation's outcomes, corrected ones among them."""
    query = select(_ledger.c.position).where(
        _ledger.c.workspace == workspace,
        _ledger.c.kind == "outcome",
        _ledger.c.body["conversation_id"].as_string() == conversation,
    )
    return list(connection.execute(query.order_by(_ledger.c.position)).scalars())


def erasure_position(connection: Connection, workspace: str, conversation: str) -> int | None:
    """The ledger position at which this conversation was erased, if it was."""
    position: int | None = connection.execute(
        select(func.min(_ledger.c.position)).where(
            _ledger.c.workspace == workspace,
            _ledger.c.kind == "erasure",
            _ledger.c.body["conversation_id"].as_string() == conversation,
            _ledger.c.body["message_id"].as_string().is_(None),
        )
    ).scalar_one()
    return position


def newest_checkpoint_position(connection: Connection, workspace: str, line: int) -> int | None:
    """The position of the newest checkpoint of a serving line, if it has one."""
    position: int | None = connection.execute(
        select(func.max(_version.c.position)).where(
            _version.c.workspace == workspace, _version.c.line == line
        )
    ).scalar_one()
    return position


def checkpoints(connection: Connection, workspace: str) -> Sequence[Any]:
    """Number, line, position and MLflow number of every version, in order of line and position."""
    return connection.execute(
        select(_version.c.number, _version.c.line, _version.c.position, _version.c.registry_version)
        .where(_version.c.workspace == workspace)
        .order_by(_version.c.line, _version.c.position, _version.c.number)
    ).all()


def aliased_versions(connection: Connection, workspace: str) -> frozenset[str]:
    """MLflow version numbers that an alias points to, or is about to."""
    rows = connection.execute(
        select(_alias.c.registry_version, _alias.c.intended).where(_alias.c.workspace == workspace)
    )
    return frozenset(number for row in rows for number in row if number is not None)


def remove_version(connection: Connection, workspace: str, number: int) -> None:
    connection.execute(
        delete(_version).where(_version.c.workspace == workspace, _version.c.number == number)
    )
