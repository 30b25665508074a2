"""Rows of inferred labels: what events suggest, beside what people stated of the same thing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, or_, select, update

from learning.ledger.lessons import WEAK_SOURCES
from service.store.database.statements import BulkInsert
from service.store.database.transactions import table
from service.store.tables import InferredLabel, Outcome

_inferred = table(InferredLabel)
_outcome = table(Outcome)
_ADD = BulkInsert(_inferred, skips=True)
_NEEDED, _NOT_NEEDED = ("needed", "missed"), ("not_needed", "fine")
_STATED = and_(
    _outcome.c.workspace == _inferred.c.workspace,
    _outcome.c.conversation_id == _inferred.c.conversation_id,
    or_(
        _outcome.c.handoff_id == _inferred.c.handoff_id,
        and_(_outcome.c.handoff_id.is_(None), _inferred.c.handoff_id.is_(None)),
    ),
    _outcome.c.retracted_at.is_(None),
    _outcome.c.source.not_in(WEAK_SOURCES),
)


def add(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add a label, once."""
    _ADD.run(connection, [row])


def change(connection: Connection, name: str, **values: Any) -> None:
    connection.execute(update(_inferred).where(_inferred.c.id == name).values(**values))


def counts(connection: Connection, workspace: str) -> dict[str, dict[str, int]]:
    """By kind: how many were inferred, how many of them taught, and of those that people stated
    something of, how many needed a person.
    """
    all_of = connection.execute(
        select(
            _inferred.c.kind,
            func.count().label("inferred"),
            func.count(func.nullif(_inferred.c.outcome_id, "")).label("taught"),
        )
        .where(_inferred.c.workspace == workspace)
        .group_by(_inferred.c.kind)
    )
    found = {row.kind: {"inferred": row.inferred, "taught": row.taught} for row in all_of}
    stated = connection.execute(
        select(_inferred.c.kind, _outcome.c.verdict, func.count().label("number"))
        .select_from(_inferred.join(_outcome, _STATED))
        .where(
            _inferred.c.workspace == workspace,
            _outcome.c.verdict.in_((*_NEEDED, *_NOT_NEEDED)),
        )
        .group_by(_inferred.c.kind, _outcome.c.verdict)
    )
    for row in stated:
        of = found[row.kind]
        of["pairs"] = of.get("pairs", 0) + row.number
        of["needed"] = of.get("needed", 0) + row.number * (row.verdict in _NEEDED)
    return found


def untaught(
    connection: Connection, workspace: str, kinds: Collection[str], most: int
) -> Sequence[Row[Any]]:
    """Labels of these kinds that have taught nothing, and of which nobody stated anything."""
    return connection.execute(
        _without_statement(workspace, kinds)
        .where(_inferred.c.outcome_id.is_(None))
        .order_by(_inferred.c.at)
        .limit(most)
    ).all()


def overruled(connection: Connection, workspace: str, most: int) -> Sequence[Row[Any]]:
    """Labels that taught, and of which a person stated something since; of the handoff, for what
    was stated of a kept conversation took their place by itself.
    """
    taught = _outcome.alias("taught")
    return connection.execute(
        select(_inferred)
        .select_from(
            _inferred.join(_outcome, _STATED).join(taught, taught.c.id == _inferred.c.outcome_id)
        )
        .where(
            _inferred.c.workspace == workspace,
            _inferred.c.handoff_id.is_not(None),
            taught.c.retracted_at.is_(None),
        )
        .limit(most)
    ).all()


def _without_statement(workspace: str, kinds: Collection[str]) -> Select[Any]:
    return (
        select(_inferred)
        .select_from(_inferred.outerjoin(_outcome, _STATED))
        .where(
            _inferred.c.workspace == workspace,
            _inferred.c.kind.in_(kinds),
            _outcome.c.id.is_(None),
        )
    )
