"""Audits: coins tossed for kept conversations, and blind reviews of those that were drawn."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from learning.decision.policy import AuditBudget, SilencePolicy
from learning.estimation.audit_sampling import DISAGREEMENT, Draw, Kept, coin, draw, paced
from service.outcomes import record_outcome
from service.outcomes.verdict import Verdict
from service.runtime.errors import Contradiction, NotFound
from service.runtime.ids import new_id
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch
from service.store.labels import audit_rows

DAY_SECONDS = 86_400
DRAWS_PER_PASS, SILENT_PER_PASS = 500, 2000
"""Conversations whose coins are tossed in one pass, and whose silence speaks."""

SETTLED_SECONDS = 2.0
"""So long after its end a conversation's coins are tossed, once every line has scored it."""

ANSWERS = ("missed", "fine", "unknowable")


def draw_audits(
    connection: Connection,
    workspace: str,
    policy: AuditBudget,
    now: float,
    disagreeing: Collection[str] = (),
    among: Sequence[str] | None = None,
) -> int:
    """Toss the coins of conversations that closed, of those that did so first or `among` these,
    under their locks; gives how many were drawn.

    Of those `disagreeing`, where a challenger would have decided otherwise, half are drawn, as
    long as more than half of the day's reviews is left. No piece is longer than the reviews that
    are left, so a day never asks for more of them than the policy says.
    """
    if among is None:
        among = due_for_sampling(connection, workspace, now)
    conversation_rows.lock(connection, workspace, among)
    found = audit_rows.sampling_frame(connection, workspace, among)
    left = policy.per_day - audit_rows.count_requested_since(
        connection, workspace, now - DAY_SECONDS
    )
    each = 2 if policy.double_share else 1
    tossed: list[dict[str, Any]] = []
    drawn = done = 0
    while done < len(found):
        piece = found[done : done + max(1, left // each)] if left >= each else found[done:]
        given = _draw_piece(workspace, piece, policy, left if left >= each else 0, now, disagreeing)
        asked = [row["wanted"] for row in given if row["status"] == "waiting"]
        drawn, left, done = drawn + len(asked), left - sum(asked), done + len(piece)
        tossed += given
    audit_rows.add(connection, workspace, among, tossed)
    return drawn


def _draw_piece(
    workspace: str,
    found: Sequence[Any],
    policy: AuditBudget,
    left: int,
    now: float,
    disagreeing: Collection[str],
) -> list[dict[str, Any]]:
    pace = paced(left, policy.per_day)
    seed = secrets.token_hex(16)
    draws = draw(
        [Kept(row.id, row.probability, row.id in disagreeing) for row in found],
        seed=seed,
        uniform_share=policy.uniform_share * pace,
        targeted_share=policy.targeted_share * pace,
        disagreement=DISAGREEMENT if pace == 1.0 else 0.0,
    )
    pairs = zip(found, draws, strict=True)
    return [_audit_row(workspace, row, one, seed, policy.double_share, now) for row, one in pairs]


def due_for_sampling(connection: Connection, workspace: str, now: float) -> Sequence[str]:
    """Conversations whose coins are to be tossed. Looked up before anything is locked."""
    return audit_rows.due_for_sampling(connection, workspace, now - SETTLED_SECONDS, DRAWS_PER_PASS)


def due_for_silence(
    connection: Connection, workspace: str, policy: SilencePolicy, now: float
) -> Sequence[str]:
    """Conversations whose silence may speak: none where the policy gives it no weight. It takes
    longer with all that was ever tossed.
    """
    if policy.weight <= 0:
        return []
    return audit_rows.due_for_silence(
        connection, workspace, now - policy.after_seconds, SILENT_PER_PASS
    )


def learn_from_silence(
    batch: Batch, workspace: str, policy: SilencePolicy, silent: Sequence[str]
) -> int:
    """Kept conversations that nobody complained of in time teach weakly: those that are still
    `due_for_silence`. Gives how many.
    """
    before = batch.now - policy.after_seconds
    found = audit_rows.due_for_silence(batch.connection, workspace, before, len(silent), silent)
    for name in found:
        record_outcome.record_silence(batch, workspace, name, policy.weight)
    return len(found)


def _audit_row(
    workspace: str, row: Any, one: Draw, seed: str, double_share: float, now: float
) -> dict[str, Any]:
    return {
        "id": new_id("a"),
        "workspace": workspace,
        "conversation_id": row.id,
        "status": "waiting" if one.drawn else "passed",
        "uniform": one.uniform,
        "targeted": one.targeted,
        "uniform_propensity": one.uniform_propensity,
        "targeted_propensity": one.targeted_propensity,
        "propensity": one.propensity,
        "seed": seed,
        "probability": row.probability,
        "threshold": row.threshold,
        "version": row.version,
        "position": row.position,
        "length": row.length,
        "wanted": 2 if coin(seed, "double", row.id) < double_share else 1,
        "reviews": 0,
        "verdict": None,
        "drawn_at": now,
        "offered_to": None,
        "offered_until": 0.0,
        "answered_at": None,
    }


def offer(batch: Batch, workspace: str, reviewer: str, policy: AuditBudget) -> dict[str, Any]:
    """The next conversation for a reviewer, without any score; theirs until a moment passes.

    An offer that is not answered by then is made again, to anyone.
    """
    since = batch.now - DAY_SECONDS
    if audit_rows.count_reviews_since(batch.connection, workspace, reviewer, since) >= (
        policy.per_reviewer_per_day
    ):
        return {"audit": None, "why": "this reviewer has done today's reviews"}
    row = audit_rows.next_for(batch.connection, workspace, reviewer, batch.now)
    if row is None:
        return {"audit": None, "why": "nothing waits for review"}
    until = batch.now + policy.offered_seconds
    audit_rows.change(batch.connection, workspace, row.id, offered_to=reviewer, offered_until=until)
    turns = conversation_rows.messages(
        batch.connection, workspace, row.conversation_id, until=row.length
    )
    shown = ("id", "author", "text", "at", "event", "scored")
    transcript = [{name: getattr(turn, name) for name in shown} for turn in turns]
    found = {"id": row.id, "conversation_id": row.conversation_id, "offered_until": until}
    return {"audit": found | {"transcript": transcript}}


def skip(batch: Batch, workspace: str, name: str, reviewer: str) -> dict[str, Any]:
    """A reviewer passes an audit on: it is offered to others, and not to them again."""
    row = _require_audit(batch, workspace, name)
    _add_review(batch, row, reviewer, Verdict("skipped", "audit", reviewer))
    audit_rows.change(batch.connection, workspace, name, offered_to=None, offered_until=0.0)
    return {"audit_id": name, "status": row["status"]}


def answer(batch: Batch, workspace: str, name: str, found: Verdict) -> dict[str, Any]:
    """A reviewer's verdict: the first is the outcome, a second one measures agreement.

    Only now is what the model had said shown.
    """
    row = _require_audit(batch, workspace, name)
    again = [
        r
        for r in audit_rows.reviews(batch.connection, workspace, name)
        if r.reviewer == found.agent
    ]
    if again and (again[0].verdict, again[0].first_needed_message_id) != (
        found.verdict,
        found.first_needed_message_id,
    ):
        raise Contradiction(
            "reviewed_otherwise",
            f"{found.agent} answered audit {name!r} before: {again[0].verdict}",
            field="verdict",
            hint="correct the outcome with PUT /v1/outcomes/{id}",
        )
    if not again:
        if row["status"] == "answered":
            raise Contradiction("audit_answered", f"audit {name!r} was answered by another")
        row = _record_answer(batch, row, found)
    return _answer_json(row)


def _record_answer(batch: Batch, row: dict[str, Any], found: Verdict) -> dict[str, Any]:
    workspace, name = row["workspace"], row["id"]
    record_outcome.record_for_audit(batch, workspace, row, found)
    _add_review(batch, row, found.agent, found)
    reviews = row["reviews"] + 1
    changes: dict[str, Any] = {"reviews": reviews, "offered_to": None, "offered_until": 0.0}
    if row["verdict"] is None:
        changes["verdict"] = found.verdict
    if reviews >= row["wanted"]:
        changes |= {"status": "answered", "answered_at": batch.now}
    audit_rows.change(batch.connection, workspace, name, **changes)
    return row | changes


def _add_review(batch: Batch, row: Mapping[str, Any], reviewer: str, found: Verdict) -> None:
    audit_rows.add_review(
        batch.connection,
        {
            "audit_id": row["id"],
            "reviewer": reviewer,
            "workspace": row["workspace"],
            "verdict": found.verdict,
            "first_needed_message_id": found.first_needed_message_id,
            "note": found.note,
            "at": batch.now,
        },
    )


def _answer_json(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("conversation_id", "status", "probability", "threshold", "version", "propensity")
    return {"audit_id": row["id"]} | {name: row[name] for name in kept}


def _require_audit(batch: Batch, workspace: str, name: str) -> dict[str, Any]:
    row = audit_rows.audit(batch.connection, workspace, name)
    if row is None or row.status == "passed":
        raise NotFound("no_audit", f"there is no audit {name!r} in this workspace")
    return row._asdict()
