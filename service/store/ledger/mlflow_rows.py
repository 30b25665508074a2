"""Rows of the state shared with MLflow: aliases, and evaluations to publish."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    Text,
    cast,
    delete,
    insert,
    or_,
    select,
    true,
    update,
)

from service.store.database.transactions import insert_if_absent, table
from service.store.tables import Alias, Evaluation, Version

_alias = table(Alias)
_evaluation = table(Evaluation)
_version = table(Version)
EVALUATIONS_PER_PASS = 5
"""Evaluations that one pass publishes: an alias request must not wait for many."""

REFUSALS_KEPT = 20
"""Newest refused requests that are kept for an alias."""


def alias(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    return connection.execute(
        select(_alias).where(_alias.c.workspace == workspace, _alias.c.name == name)
    ).one_or_none()


def record_alias(connection: Connection, workspace: str, name: str, **values: str | None) -> None:
    """Record the version an alias was seen at (`registry_version`) or is about to be set to
    (`intended`).
    """
    empty: dict[str, Any] = {"registry_version": None, "intended": None, "refused": []}
    row = {"workspace": workspace, "name": name, "at": time.time()}
    insert_if_absent(connection, Alias, empty | row)
    connection.execute(
        update(_alias)
        .where(_alias.c.workspace == workspace, _alias.c.name == name)
        .values(**values, at=row["at"])
    )


def add_refusal(
    connection: Connection, workspace: str, name: str, refusal: Mapping[str, Any]
) -> None:
    """Record that a request to move an alias was reverted, and why."""
    record_alias(connection, workspace, name)
    is_alias = (_alias.c.workspace == workspace) & (_alias.c.name == name)
    before = connection.execute(select(_alias.c.refused).where(is_alias)).scalar_one()
    newest = [*before, dict(refusal)][-REFUSALS_KEPT:]
    connection.execute(update(_alias).where(is_alias).values(refused=newest))


def aliases(connection: Connection, workspace: str) -> Sequence[Row[Any]]:
    """Every alias as Baton last wrote or saw it."""
    return connection.execute(
        select(_alias).where(_alias.c.workspace == workspace).order_by(_alias.c.name)
    ).all()


def add_evaluation(
    connection: Connection,
    workspace: str,
    evaluation: str,
    position: int,
    at: float,
    report: Mapping[str, Any],
) -> None:
    """Add an evaluation with its report as plain JSON, to be published to MLflow."""
    connection.execute(
        insert(_evaluation).values(
            id=evaluation,
            workspace=workspace,
            position=position,
            report=report,
            run_id=None,
            at=at,
        )
    )


def last_evaluation(connection: Connection, workspace: str) -> Row[Any] | None:
    return connection.execute(
        select(_evaluation)
        .where(_evaluation.c.workspace == workspace)
        .order_by(_evaluation.c.position.desc(), _evaluation.c.at.desc())
        .limit(1)
    ).one_or_none()


def last_evaluation_id(connection: Connection, workspace: str) -> str | None:
    """The id of the newest evaluation."""
    return connection.execute(
        select(_evaluation.c.id)
        .where(_evaluation.c.workspace == workspace)
        .order_by(_evaluation.c.position.desc(), _evaluation.c.at.desc())
        .limit(1)
    ).scalar_one_or_none()


def unpublished_evaluations(connection: Connection, workspace: str) -> Sequence[Row[Any]]:
    return connection.execute(
        select(_evaluation)
        .where(_evaluation.c.workspace == workspace, _evaluation.c.run_id.is_(None))
        .order_by(_evaluation.c.position)
        .limit(EVALUATIONS_PER_PASS)
    ).all()


def mark_evaluation_published(connection: Connection, name: str, run_id: str) -> None:
    connection.execute(update(_evaluation).where(_evaluation.c.id == name).values(run_id=run_id))


STALE = "stale:"
"""Before an evaluation's run: what MLflow shows of it is to be replaced."""


def remove_mistakes(connection: Connection, workspace: str, conversation: str) -> int:
    """Take a conversation out of the evaluations that show it among their mistakes; the runs of
    those that MLflow has become stale. Gives their number.
    """
    named = cast(_evaluation.c.report, Text)
    escaped = json.dumps(conversation)[1:-1]
    rows = connection.execute(
        select(_evaluation.c.id, _evaluation.c.report, _evaluation.c.run_id).where(
            _evaluation.c.workspace == workspace,
            or_(*(named.contains(x, autoescape=True) for x in {conversation, escaped})),
        )
    ).all()
    removed = 0
    for row in rows:
        mistakes = row.report.get("mistakes", ())
        others = [mistake for mistake in mistakes if mistake.get("conversation") != conversation]
        if len(others) < len(mistakes):
            run_id = row.run_id and STALE + row.run_id.removeprefix(STALE)
            connection.execute(
                update(_evaluation)
                .where(_evaluation.c.id == row.id)
                .values(report=row.report | {"mistakes": others}, run_id=run_id)
            )
            removed += 1
    return removed


def stale_runs(connection: Connection, workspace: str) -> list[tuple[str, str]]:
    """Evaluations whose run is to be replaced in MLflow: their ids and the runs'."""
    rows = connection.execute(
        select(_evaluation.c.id, _evaluation.c.run_id)
        .where(_evaluation.c.workspace == workspace, _evaluation.c.run_id.startswith(STALE))
        .order_by(_evaluation.c.position)
        .limit(EVALUATIONS_PER_PASS)
    )
    return [(row.id, row.run_id.removeprefix(STALE)) for row in rows]


def mark_evaluation_unpublished(connection: Connection, name: str) -> None:
    connection.execute(update(_evaluation).where(_evaluation.c.id == name).values(run_id=None))


def surplus_evaluations(
    connection: Connection, workspace: str, keep: int, keep_special: int
) -> list[Row[Any]]:
    """Evaluations beyond the newest `keep` that are published and kept the champion; and all
    beyond the newest `keep_special`. The oldest first.
    """
    newest_first = (
        select(_evaluation.c.id, _evaluation.c.run_id, _evaluation.c.report["verdict"].as_string())
        .where(_evaluation.c.workspace == workspace)
        .order_by(_evaluation.c.position.desc(), _evaluation.c.at.desc())
    )
    surplus = connection.execute(newest_first.offset(keep)).all()
    plain = [row for row in surplus[: keep_special - keep] if row.run_id and row[2] == "keep"]
    return [*plain, *surplus[keep_special - keep :]][::-1]


def remove_evaluation(connection: Connection, workspace: str, name: str) -> None:
    connection.execute(
        delete(_evaluation).where(_evaluation.c.workspace == workspace, _evaluation.c.id == name)
    )


def mark_all_unpublished(connection: Connection, workspace: str | None = None) -> None:
    """Mark everything as unpublished, of one workspace or of all: a new MLflow gets all of it."""

    def among(table: Table) -> ColumnElement[bool]:
        return true() if workspace is None else table.c.workspace == workspace

    forgotten = {"registry_version": None, "blocked_tag": None}
    connection.execute(update(_version).where(among(_version)).values(forgotten))
    connection.execute(update(_evaluation).where(among(_evaluation)).values(run_id=None))
    connection.execute(delete(_alias).where(among(_alias)))
