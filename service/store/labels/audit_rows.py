"""Rows of audits and reviews: the sampling frame, the draws, and the statistics of the sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from service.store.database.transactions import table
from service.store.tables import NOT_YET_SAMPLED, Audit, Conversation, Decision, Outcome, Review

_audit = table(Audit)
_review = table(Review)
_conversation = table(Conversation)
_decision = table(Decision)
_outcome = table(Outcome)


def due_for_sampling(
    connection: Connection, workspace: str, closed_before: float, most: int
) -> Sequence[str]:
    """Kept, closed conversations that were not sampled yet, those that closed first."""
    return (
        connection.execute(
            select(_conversation.c.id)
            .where(
                _conversation.c.workspace == workspace,
                _conversation.c.closed_at < closed_before,
                NOT_YET_SAMPLED,
            )
            .order_by(_conversation.c.closed_at, _conversation.c.id)
            .limit(most)
        )
        .scalars()
        .all()
    )


def sampling_frame(connection: Connection, workspace: str, among: Sequence[str]) -> Sequence[Any]:
    """The sampling frame: of the conversations `among`, those that are closed, were scored and not
    yet sampled, with their highest probability, and its thresholds, version and position.
    """
    scored = and_(
        _decision.c.workspace == _conversation.c.workspace,
        _decision.c.conversation_id == _conversation.c.id,
        _decision.c.probability.is_not(None),
    )
    return connection.execute(
        select(
            _conversation.c.id,
            _conversation.c.length,
            func.max(_decision.c.probability).label("probability"),
            func.max(_decision.c.escalate_threshold).label("threshold"),
            func.max(_decision.c.version).label("version"),
            func.max(_decision.c.position).label("position"),
        )
        .select_from(_conversation.join(_decision, scored))
        .where(
            _conversation.c.workspace == workspace, _conversation.c.id.in_(among), NOT_YET_SAMPLED
        )
        .group_by(_conversation.c.id, _conversation.c.length, _conversation.c.closed_at)
        .order_by(_conversation.c.closed_at, _conversation.c.id)
    ).all()


def due_for_silence(
    connection: Connection,
    workspace: str,
    closed_before: float,
    most: int,
    among: Sequence[str] | None = None,
) -> Sequence[str]:
    """Kept conversations that closed before a moment, were not drawn, and have no outcome:
    candidates for silent negatives; of all, or `among` these.
    """
    outcome = exists().where(
        _outcome.c.workspace == _audit.c.workspace,
        _outcome.c.conversation_id == _audit.c.conversation_id,
    )
    still_kept = and_(
        _conversation.c.workspace == _audit.c.workspace,
        _conversation.c.id == _audit.c.conversation_id,
        _conversation.c.status == "closed",
        ~_conversation.c.escalated,
        _conversation.c.closed_at < closed_before,
    )
    return (
        connection.execute(
            select(_audit.c.conversation_id)
            .select_from(_audit.join(_conversation, still_kept))
            .where(
                _audit.c.workspace == workspace,
                _audit.c.status == "passed",
                ~outcome,
                *([] if among is None else [_conversation.c.id.in_(among)]),
            )
            .order_by(_audit.c.drawn_at, _audit.c.id)
            .limit(most)
        )
        .scalars()
        .all()
    )


def _last_unaccepted_offer() -> Any:
    """The place of a conversation's last offer that was not accepted; null for none."""
    return (
        select(func.max(_decision.c.seq))
        .where(
            _decision.c.workspace == _conversation.c.workspace,
            _decision.c.conversation_id == _conversation.c.id,
            _decision.c.action == "offer",
            or_(_decision.c.answer.is_(None), _decision.c.answer == "declined"),
        )
        .scalar_subquery()
    )


def _has_outcome() -> Any:
    return exists().where(
        _outcome.c.workspace == _conversation.c.workspace,
        _outcome.c.conversation_id == _conversation.c.id,
    )


def unlabelled_endings(
    connection: Connection, workspace: str, among: Sequence[str]
) -> Sequence[Any]:
    """Of these conversations those that are closed and kept, were sampled and not drawn, and have
    no outcome: their resolution, and the place of their last offer that was not accepted.
    """
    return connection.execute(
        select(
            _conversation.c.id,
            _conversation.c.resolution,
            _last_unaccepted_offer().label("offered"),
        )
        .select_from(_audit.join(_conversation, _still_kept()))
        .where(
            _audit.c.workspace == workspace,
            _audit.c.conversation_id.in_(among),
            _audit.c.status == "passed",
            ~_has_outcome(),
        )
        .order_by(_conversation.c.closed_at, _conversation.c.id)
    ).all()


def quiet_since(
    connection: Connection, workspace: str, after: float, until: float, most: int
) -> Sequence[str]:
    """Open conversations that were last heard of in this time."""
    return (
        connection.execute(
            select(_conversation.c.id)
            .where(
                _conversation.c.workspace == workspace,
                _conversation.c.status == "open",
                _conversation.c.last_at > after,
                _conversation.c.last_at <= until,
            )
            .order_by(_conversation.c.last_at)
            .limit(most)
        )
        .scalars()
        .all()
    )


def last_heard(connection: Connection, workspace: str, name: str) -> float:
    """When a conversation was last heard of."""
    at: float = connection.execute(
        select(_conversation.c.last_at).where(
            _conversation.c.workspace == workspace, _conversation.c.id == name
        )
    ).scalar_one()
    return at


def quiet_declines(connection: Connection, workspace: str, among: Sequence[str]) -> Sequence[Any]:
    """Of these open conversations those that no person ever had, without an outcome, with the place
    of their last offer that was not accepted.
    """
    offered = _last_unaccepted_offer()
    return connection.execute(
        select(_conversation.c.id, offered.label("offered"))
        .where(
            _conversation.c.workspace == workspace,
            _conversation.c.id.in_(among),
            _conversation.c.status == "open",
            ~_conversation.c.escalated,
            offered.is_not(None),
            ~_has_outcome(),
        )
        .order_by(_conversation.c.id)
    ).all()


def add(
    connection: Connection,
    workspace: str,
    ended: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Add the draws, each in place of its conversation's earlier one, and mark the conversations
    `ended` as sampled.
    """
    if rows:
        drawn = [row["conversation_id"] for row in rows]
        connection.execute(
            delete(_audit).where(
                _audit.c.workspace == workspace, _audit.c.conversation_id.in_(drawn)
            )
        )
        connection.execute(insert(_audit), [dict(row) for row in rows])
    connection.execute(
        update(_conversation)
        .where(
            _conversation.c.workspace == workspace, _conversation.c.id.in_(ended), NOT_YET_SAMPLED
        )
        .values(tossed=True)
    )


def requested_since(connection: Connection, workspace: str, since: float) -> Row[Any]:
    """The numbers of reviews requested since a moment, which are spent of a day's budget: because
    lines disagreed (`disagreement`), and `others`; how many conversations were `sampled` since, and
    when the first of them was (`first_at`).
    """
    disagrees = and_(
        _audit.c.disagreement > 0, _audit.c.targeted_propensity >= _audit.c.disagreement
    )
    drawn = _audit.c.status != "passed"
    return connection.execute(
        select(
            func.coalesce(
                func.sum(case((and_(drawn, disagrees), _audit.c.wanted), else_=0)), 0
            ).label("disagreement"),
            func.coalesce(
                func.sum(case((and_(drawn, ~disagrees), _audit.c.wanted), else_=0)), 0
            ).label("others"),
            func.count().label("sampled"),
            func.min(_audit.c.drawn_at).label("first_at"),
        )
        .select_from(_audit)
        .where(
            _audit.c.workspace == workspace,
            _audit.c.status.in_(("passed", "waiting", "answered")),
            _audit.c.drawn_at >= since,
        )
    ).one()


def count_reviews_since(connection: Connection, workspace: str, reviewer: str, since: float) -> int:
    total: int = connection.execute(
        select(func.count())
        .select_from(_review)
        .where(
            _review.c.workspace == workspace,
            _review.c.reviewer == reviewer,
            _review.c.at >= since,
        )
    ).scalar_one()
    return total


def next_for(connection: Connection, workspace: str, reviewer: str, now: float) -> Row[Any] | None:
    """The next audit for a reviewer: the one leased to them, else the oldest that is free."""
    own_review = exists().where(_review.c.audit_id == _audit.c.id, _review.c.reviewer == reviewer)
    free = or_(_audit.c.offered_until < now, _audit.c.offered_to == reviewer)
    return connection.execute(
        select(_audit)
        .where(_audit.c.workspace == workspace, _audit.c.status == "waiting", free, ~own_review)
        .order_by(
            (and_(_audit.c.offered_to == reviewer, _audit.c.offered_until >= now)).desc(),
            _audit.c.drawn_at,
            _audit.c.id,
        )
        .limit(1)
        .with_for_update()
    ).one_or_none()


def audit(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    return connection.execute(
        select(_audit).where(_audit.c.workspace == workspace, _audit.c.id == name).with_for_update()
    ).one_or_none()


def of_conversation(connection: Connection, workspace: str, name: str) -> Row[Any] | None:
    return connection.execute(
        select(_audit).where(_audit.c.workspace == workspace, _audit.c.conversation_id == name)
    ).one_or_none()


def request_another_review(connection: Connection, workspace: str, conversation: str) -> None:
    """Request another review after a retraction: a drawn audit is never dropped from the sample."""
    connection.execute(
        update(_audit)
        .where(_audit.c.workspace == workspace, _audit.c.conversation_id == conversation)
        .values(verdict=None, status="waiting", wanted=_audit.c.reviews + 1, answered_at=None)
    )


def earlier_draws(
    connection: Connection, workspace: str, names: Sequence[str]
) -> dict[str, Row[Any]]:
    """The draws of these conversations' earlier ends, by conversation."""
    rows = connection.execute(
        select(_audit).where(_audit.c.workspace == workspace, _audit.c.conversation_id.in_(names))
    )
    return {row.conversation_id: row for row in rows}


def change(connection: Connection, workspace: str, name: str, **values: Any) -> None:
    connection.execute(
        update(_audit).where(_audit.c.workspace == workspace, _audit.c.id == name).values(**values)
    )


def add_review(connection: Connection, row: Mapping[str, Any]) -> None:
    connection.execute(insert(_review).values(**row))


def reviews(connection: Connection, workspace: str, audit_id: str) -> Sequence[Row[Any]]:
    return connection.execute(
        select(_review)
        .where(_review.c.workspace == workspace, _review.c.audit_id == audit_id)
        .order_by(_review.c.at)
    ).all()


def double_reviews(connection: Connection, workspace: str) -> list[tuple[bool, bool]]:
    """Pairs of labels (was a person needed?) of audits with two reviews, for agreement (kappa)."""
    first = _review.alias()
    rows = connection.execute(
        select(first.c.verdict, _review.c.verdict.label("second"))
        .select_from(
            first.join(
                _review,
                and_(
                    first.c.audit_id == _review.c.audit_id,
                    or_(
                        first.c.at < _review.c.at,
                        and_(first.c.at == _review.c.at, first.c.reviewer < _review.c.reviewer),
                    ),
                ),
            )
        )
        .where(
            first.c.workspace == workspace,
            first.c.verdict.in_(("missed", "fine")),
            _review.c.verdict.in_(("missed", "fine")),
        )
    )
    return [(row.verdict == "missed", row.second == "missed") for row in rows]


def is_caught() -> Any:
    """The condition that a kept conversation is a known miss, by other than its audit."""
    return exists().where(
        _outcome.c.workspace == _audit.c.workspace,
        _outcome.c.conversation_id == _audit.c.conversation_id,
        _outcome.c.handoff_id.is_(None),
        _outcome.c.verdict == "missed",
        _outcome.c.source != "audit",
        _outcome.c.retracted_at.is_(None),
    )


def _still_kept() -> Any:
    return and_(
        _conversation.c.workspace == _audit.c.workspace,
        _conversation.c.id == _audit.c.conversation_id,
        _conversation.c.closed_at.is_not(None),
        ~_conversation.c.escalated,
    )


def weight_sums(sampled: Any) -> tuple[Any, ...]:
    """Inverse-propensity sums over the answered audits that were `sampled`: of the weights, of
    their squares (effective sample size), and of the weights of those missed.

    A weight is 1 over the propensity of the uniform draw (Horvitz-Thompson).
    """
    weight = 1.0 / _audit.c.uniform_propensity
    answered = and_(sampled, _audit.c.verdict.in_(("missed", "fine")))
    summed = {
        "weight": case((answered, weight), else_=0.0),
        "squares": case((answered, weight * weight), else_=0.0),
        "weight_missed": case((and_(sampled, _audit.c.verdict == "missed"), weight), else_=0.0),
    }
    return tuple(func.coalesce(func.sum(x), 0.0).label(name) for name, x in summed.items())


def uniform_sample(connection: Connection, workspace: str, since: float = 0.0) -> Any:
    """Counts and weight sums of the uniform sample of kept conversations that no complaint caught.

    With `since`, of the conversations that closed from that moment on.
    """
    uniform = and_(_audit.c.uniform, ~is_caught())
    conditions = {
        "drawn": uniform,
        "missed": and_(uniform, _audit.c.verdict == "missed"),
        "fine": and_(uniform, _audit.c.verdict == "fine"),
        "unknowable": and_(uniform, _audit.c.verdict == "unknowable"),
        "pending": and_(uniform, _audit.c.status == "waiting", _audit.c.verdict.is_(None)),
        "targeted": and_(_audit.c.targeted, ~_audit.c.uniform),
        "tossed": _audit.c.id.is_not(None),
        "out_of_reach": _audit.c.uniform_propensity == 0,
    }
    counts = (func.count().filter(condition).label(name) for name, condition in conditions.items())
    return connection.execute(
        select(*counts, *weight_sums(uniform))
        .select_from(_audit.join(_conversation, _still_kept()))
        .where(_audit.c.workspace == workspace, _conversation.c.closed_at >= since)
    ).one()
