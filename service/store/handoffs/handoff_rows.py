"""Rows of handoffs: the queue and its pages, one handoff, its changes and counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, select, update

from service.store.database.clock import database_time
from service.store.database.statements import BulkInsert, CompiledSelect
from service.store.database.transactions import table
from service.store.tables import Conversation, Decision, Handoff, MessageRow, Note, Outcome

_handoff = table(Handoff)
_decision = table(Decision)
_outcome = table(Outcome)
_ONE = CompiledSelect(
    select(_handoff).where(
        _handoff.c.workspace == bindparam("of_workspace"), _handoff.c.id == bindparam("of_id")
    )
)
_ADD = BulkInsert(_handoff)
_message = table(MessageRow)
EXCERPT_CHARS_MAX = 240
_QUEUE_PAGE = (
    select(
        _handoff,
        func.substr(_message.c.text, 1, EXCERPT_CHARS_MAX).label("said"),
        _decision.c.reasons,
    )
    .outerjoin(
        _message,
        and_(
            _message.c.workspace == _handoff.c.workspace,
            _message.c.conversation_id == _handoff.c.conversation_id,
            _message.c.seq == _handoff.c.seq,
        ),
    )
    .outerjoin(_decision, _decision.c.id == _handoff.c.decision_id)
)

_CHANGES = (
    select(_handoff.c.id, _handoff.c.changed_at)
    .where(
        _handoff.c.workspace == bindparam("of_workspace"),
        _handoff.c.changed_at > bindparam("since"),
    )
    .order_by(_handoff.c.changed_at, _handoff.c.id)
    .limit(bindparam("most"))
)


def add(connection: Connection, row: Mapping[str, Any]) -> None:
    _ADD.run(connection, [row])


def handoff(connection: Connection, workspace: str, name: str) -> Any | None:
    rows = _ONE.rows(connection, of_workspace=workspace, of_id=name)
    return rows[0] if rows else None


def change(connection: Connection, workspace: str, name: str, **values: Any) -> None:
    """Update a handoff; `changed_at` tells subscribers of the queue."""
    connection.execute(
        update(_handoff)
        .where(_handoff.c.workspace == workspace, _handoff.c.id == name)
        .values(changed_at=database_time(connection), **values)
    )


def queue(
    connection: Connection,
    workspace: str,
    *,
    status: str | None = None,
    team: str | None = None,
    most: int = 200,
) -> Sequence[Row[Any]]:
    """Handoffs, the most urgent and then the oldest first."""
    query = select(_handoff).where(_handoff.c.workspace == workspace)
    if status is not None:
        query = query.where(_handoff.c.status == status)
    if team is not None:
        query = query.where(_handoff.c.team == team)
    order = (_handoff.c.priority, _handoff.c.opened_at, _handoff.c.id)
    return connection.execute(query.order_by(*order).limit(most)).all()


def queue_page(
    connection: Connection,
    workspace: str,
    *,
    status: str,
    teams: Collection[str] = (),
    claimed_by: str | None = None,
    skip: int = 0,
    most: int = 50,
) -> Sequence[Row[Any]]:
    """A page of the queue, of these teams or of all, each handoff with an excerpt of its message
    and its reasons.
    """
    query = _QUEUE_PAGE.where(_handoff.c.workspace == workspace, _handoff.c.status == status)
    if teams:
        query = query.where(_handoff.c.team.in_(teams))
    if claimed_by is not None:
        query = query.where(_handoff.c.claimed_by == claimed_by)
    order = (_handoff.c.priority, _handoff.c.opened_at, _handoff.c.id)
    return connection.execute(query.order_by(*order).offset(skip).limit(most)).all()


def changes(
    connection: Connection, workspace: str, since: float, most: int
) -> Sequence[tuple[str, float]]:
    """Change feed: ids and times of handoffs changed after a moment, in order, at most `most`."""
    rows = connection.execute(_CHANGES, {"of_workspace": workspace, "since": since, "most": most})
    return [(row.id, row.changed_at) for row in rows]


def by_ids(connection: Connection, workspace: str, ids: Collection[str]) -> Sequence[Row[Any]]:
    """These handoffs as on a page of the queue, in the order they changed."""
    query = _QUEUE_PAGE.where(_handoff.c.workspace == workspace, _handoff.c.id.in_(ids))
    return connection.execute(query.order_by(_handoff.c.changed_at, _handoff.c.id)).all()


def unanswered(
    connection: Connection, workspace: str, teams: Collection[str] = (), most: int = 50
) -> Sequence[Row[Any]]:
    """Handoffs that nobody took in time and whose request still stands, as on a page of the queue:
    the newest of its conversation, which is open and without a person.
    """
    conversation, later = table(Conversation), _handoff.alias()
    superseded = select(later.c.id).where(
        later.c.workspace == _handoff.c.workspace,
        later.c.conversation_id == _handoff.c.conversation_id,
        later.c.opened_at > _handoff.c.opened_at,
    )
    query = _QUEUE_PAGE.join(
        conversation,
        and_(
            conversation.c.workspace == _handoff.c.workspace,
            conversation.c.id == _handoff.c.conversation_id,
        ),
    ).where(
        _handoff.c.workspace == workspace,
        _handoff.c.status == "unanswered",
        conversation.c.status == "open",
        conversation.c.handoff_id.is_(None),
        ~superseded.exists(),
    )
    if teams:
        query = query.where(_handoff.c.team.in_(teams))
    order = (_handoff.c.priority, _handoff.c.opened_at, _handoff.c.id)
    return connection.execute(query.order_by(*order).limit(most)).all()


def counts(connection: Connection, workspace: str) -> Sequence[Row[Any]]:
    """Open handoffs by status and team: their number, and since when the oldest is open."""
    return connection.execute(
        select(
            _handoff.c.status,
            _handoff.c.team,
            func.count().label("number"),
            func.min(_handoff.c.opened_at).label("oldest_at"),
        )
        .where(_handoff.c.workspace == workspace, _handoff.c.status.in_(("waiting", "claimed")))
        .group_by(_handoff.c.status, _handoff.c.team)
        .order_by(_handoff.c.team)
    ).all()


def of_conversation(
    connection: Connection, workspace: str, conversation: str
) -> Sequence[Row[Any]]:
    return connection.execute(
        select(_handoff)
        .where(_handoff.c.workspace == workspace, _handoff.c.conversation_id == conversation)
        .order_by(_handoff.c.opened_at)
    ).all()


def newest_of(
    connection: Connection, workspace: str, conversations: Collection[str]
) -> dict[str, Row[Any]]:
    """The newest handoff of each of these conversations that had one."""
    rows = connection.execute(
        select(_handoff)
        .where(_handoff.c.workspace == workspace, _handoff.c.conversation_id.in_(conversations))
        .order_by(_handoff.c.opened_at)
    )
    return {row.conversation_id: row for row in rows}


def of_decision(connection: Connection, workspace: str, decision: str) -> Row[Any] | None:
    """The handoff that a decision opened."""
    return connection.execute(
        select(_handoff).where(
            _handoff.c.workspace == workspace, _handoff.c.decision_id == decision
        )
    ).one_or_none()


def count_waiting(connection: Connection, workspace: str, team: str) -> int:
    """The number of handoffs that wait for a team."""
    total: int = connection.execute(
        select(func.count()).where(
            _handoff.c.workspace == workspace,
            _handoff.c.team == team,
            _handoff.c.status == "waiting",
        )
    ).scalar_one()
    return total


def count_late(connection: Connection, workspace: str, now: float) -> int:
    """The number of handoffs that still wait although they were promised sooner."""
    total: int = connection.execute(
        select(func.count()).where(
            _handoff.c.workspace == workspace,
            _handoff.c.status == "waiting",
            _handoff.c.promised_at < now,
        )
    ).scalar_one()
    return total


def overdue(
    connection: Connection, status: str, column: str, before: float, workspace: str
) -> Sequence[Row[Any]]:
    """Handoffs in a status whose time in `column` is before a moment."""
    query = select(_handoff).where(
        _handoff.c.workspace == workspace,
        _handoff.c.status == status,
        _handoff.c[column] < before,
    )
    return connection.execute(query.order_by(_handoff.c[column]).limit(500)).all()


def newest_time(connection: Connection) -> float:
    """The newest time in the database: its own clock's where it has one, else that of what was
    written last by any process.
    """
    if connection.dialect.name == "postgresql":
        clock = func.extract("epoch", func.clock_timestamp())
        return float(connection.execute(select(clock)).scalar_one())
    times = [
        select(func.max(column)).scalar_subquery()
        for column in (_handoff.c.changed_at, table(Conversation).c.last_at)
    ]
    return max(time or 0.0 for time in connection.execute(select(*times)).one())


def without_outcome(
    connection: Connection, workspace: str, agent: str, since: float, most: int
) -> Sequence[Row[Any]]:
    """Unlabelled handoffs of an agent since a moment, with the model's score, the newest first."""
    outcome = select(_outcome.c.id).where(
        _outcome.c.workspace == workspace,
        _outcome.c.conversation_id == _handoff.c.conversation_id,
        _outcome.c.handoff_id == _handoff.c.id,
        _outcome.c.retracted_at.is_(None),
    )
    decision_columns = (
        _decision.c.message_id,
        _decision.c.probability,
        _decision.c.uncertainty,
        _decision.c.escalate_threshold,
    )
    return connection.execute(
        select(_handoff, *decision_columns)
        .join(_decision, _decision.c.id == _handoff.c.decision_id)
        .where(
            _handoff.c.workspace == workspace,
            _handoff.c.claimed_by == agent,
            _handoff.c.changed_at >= since,  # has an index, and comes no sooner than the next
            _handoff.c.opened_at >= since,
            ~outcome.exists(),
        )
        .order_by(_handoff.c.opened_at.desc(), _handoff.c.id)
        .limit(most)
    ).all()


def count_outcomes(connection: Connection, workspace: str, agent: str, since: float) -> int:
    """The number of handoff outcomes that an agent has given since a moment."""
    total: int = connection.execute(
        select(func.count())
        .select_from(_outcome)
        .where(
            _outcome.c.workspace == workspace,
            _outcome.c.agent == agent,
            _outcome.c.at >= since,
            _outcome.c.handoff_id.is_not(None),
        )
    ).scalar_one()
    return total


_ETAG_COLUMNS = select(
    _handoff.c.status,
    _handoff.c.team,
    _handoff.c.claimed_by,
    _handoff.c.claimed_at,
    select(table(Conversation).c.length)
    .where(
        table(Conversation).c.workspace == _handoff.c.workspace,
        table(Conversation).c.id == _handoff.c.conversation_id,
    )
    .scalar_subquery(),
    select(func.max(_outcome.c.position))
    .where(
        _outcome.c.workspace == _handoff.c.workspace,
        _outcome.c.conversation_id == _handoff.c.conversation_id,
        _outcome.c.handoff_id == _handoff.c.id,
        _outcome.c.retracted_at.is_(None),
    )
    .scalar_subquery(),
    select(func.count())
    .select_from(table(Note))
    .where(
        table(Note).c.workspace == _handoff.c.workspace,
        table(Note).c.conversation_id == _handoff.c.conversation_id,
    )
    .scalar_subquery(),
).where(_handoff.c.workspace == bindparam("of_workspace"), _handoff.c.id == bindparam("of_id"))


def etag_columns(connection: Connection, workspace: str, name: str) -> tuple[Any, ...] | None:
    """The columns behind a handoff page's ETag: whatever changes the page changes them."""
    row = connection.execute(
        _ETAG_COLUMNS, {"of_workspace": workspace, "of_id": name}
    ).one_or_none()
    return None if row is None else tuple(row)
