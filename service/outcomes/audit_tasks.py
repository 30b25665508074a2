"""Audits: random sampling of kept conversations (uniform and targeted Bernoulli draws), and blind
review of those that were drawn.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from learning.decision.policy_parts import AuditBudget, ResolvedPolicy, SilencePolicy
from learning.estimation.audit_sampling import (
    AuditCandidate,
    DailyBudget,
    Draw,
    draw,
    expected_in_a_day,
    uniform_variate,
)
from service.handoffs.brief import SHOWN_CHARS_MAX, newest_within
from service.outcomes import record_outcome
from service.outcomes.verdict import Verdict
from service.runtime.errors import Contradiction, NotFound
from service.runtime.ids import new_id
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch
from service.store.labels import audit_rows

DAY_SECONDS = 86_400
DRAWS_PER_PASS, SILENT_PER_PASS = 500, 2000
"""Conversations sampled in one pass, and those that become silent negatives in one."""

SETTLED_SECONDS = 2.0
"""A conversation is sampled this long after its end, once every line has scored it."""

NO_ACTIONS: Mapping[str, Mapping[str, int]] = MappingProxyType({})

ANSWERS = ("missed", "fine", "unknowable")


def draw_audits(
    connection: Connection,
    workspace: str,
    policy: AuditBudget,
    now: float,
    actions: Mapping[str, Mapping[str, int]] = NO_ACTIONS,
    among: Sequence[str] | None = None,
    new_seed: Callable[[], str] = lambda: secrets.token_hex(16),
) -> int:
    """Draw audits: sample closed conversations (uniform and targeted Bernoulli draws) within
    today's budget, of those that closed first or `among` these, under their locks; gives the number
    drawn.

    By `actions` of each line, where a challenger would have decided otherwise half are drawn, as
    long as the share of the budget that is kept for them lasts. They are drawn in pieces no longer
    than the reviews that are left, so the policy's budget of a day is never exceeded.
    """
    if among is None:
        among = due_for_sampling(connection, workspace, now)
    conversation_rows.lock(connection, workspace, among)
    rows = audit_rows.sampling_frame(connection, workspace, among)
    requested = audit_rows.requested_since(connection, workspace, now - DAY_SECONDS)
    budget = DailyBudget(
        policy.per_day,
        policy.disagreement_share if actions else 0.0,
        2 if policy.double_share else 1,
        requested.others,
        requested.disagreement,
        _expected_reviews(requested, len(rows), policy, now),
    )
    earlier = audit_rows.earlier_draws(connection, workspace, [row.id for row in rows])
    actions = {name: levels for name, levels in actions.items() if name not in earlier}
    audits: list[dict[str, Any]] = []
    drawn_count = start = 0
    while start < len(rows):
        piece = rows[start : start + budget.piece(len(rows) - start)]
        drawn = _draw_piece(workspace, piece, policy, budget, now, actions, new_seed())
        for row in drawn:
            before = earlier.get(row["conversation_id"])
            audit = row if before is None else _drawn_again(before, row)
            if audit["status"] == "waiting":
                drawn_count += 1
                requested_now = audit["wanted"] - (0 if before is None else before.reviews)
                budget = budget.spend(requested_now, disagreement=_differs(audit["actions"]))
            audits.append(audit)
        start += len(piece)
    audit_rows.add(connection, workspace, among, audits)
    return drawn_count


def _expected_reviews(requested: Any, ended: int, policy: AuditBudget, now: float) -> float:
    """The reviews that a day like the last would request at the policy's full shares."""
    first = now if requested.first_at is None else requested.first_at
    conversations = expected_in_a_day(requested.sampled + ended, now - first)
    share = policy.uniform_share + policy.targeted_share
    return conversations * min(1.0, share) * (1 + policy.double_share)


def _differs(actions: Mapping[str, int] | None) -> bool:
    """Whether the lines would not all have done the same."""
    return len(set((actions or {}).values())) > 1


def _draw_piece(
    workspace: str,
    rows: Sequence[Any],
    policy: AuditBudget,
    budget: DailyBudget,
    now: float,
    actions: Mapping[str, Mapping[str, int]],
    seed: str,
) -> list[dict[str, Any]]:
    draws = draw(
        [AuditCandidate(row.id, row.probability, _differs(actions.get(row.id))) for row in rows],
        seed=seed,
        uniform_share=policy.uniform_share * budget.pace,
        targeted_share=policy.targeted_share * budget.pace,
        disagreement=budget.disagreement,
    )
    return [
        _audit_row(workspace, row, result, seed, policy.double_share, now)
        | {"disagreement": budget.disagreement, "actions": actions.get(row.id)}
        for row, result in zip(rows, draws, strict=True)
    ]


def _drawn_again(earlier: Any, row: dict[str, Any]) -> dict[str, Any]:
    """The draws of a conversation that opened again and has ended anew: it is drawn if either end
    was, with the chance of that, and then reviewed to its new end. Comparisons of lines have it by
    its first end.
    """
    uniform, targeted = (
        1 - (1 - getattr(earlier, name)) * (1 - row[name])
        for name in ("uniform_propensity", "targeted_propensity")
    )
    drawn = earlier.status != "passed" or row["status"] == "waiting"
    return row | {
        "id": earlier.id,
        "status": "waiting" if drawn else "passed",
        "uniform": earlier.uniform or row["uniform"],
        "targeted": earlier.targeted or row["targeted"],
        "uniform_propensity": uniform,
        "targeted_propensity": targeted,
        "propensity": 1 - (1 - uniform) * (1 - targeted),
        "wanted": earlier.reviews + row["wanted"],
        "reviews": earlier.reviews,
        "actions": None,
    }


def due_for_sampling(connection: Connection, workspace: str, now: float) -> Sequence[str]:
    """Closed conversations that were not sampled yet. Looked up before anything is locked."""
    return audit_rows.due_for_sampling(connection, workspace, now - SETTLED_SECONDS, DRAWS_PER_PASS)


def due_for_silence(
    connection: Connection, workspace: str, policy: SilencePolicy, now: float
) -> Sequence[str]:
    """Candidates for silent negatives; none where the policy gives silence no weight. Its time
    grows with the number of conversations ever sampled.
    """
    if policy.weight <= 0:
        return []
    return audit_rows.due_for_silence(
        connection, workspace, now - policy.after_seconds, SILENT_PER_PASS
    )


def learn_from_silence(
    batch: Batch, workspace: str, policy: SilencePolicy, silent: Sequence[str]
) -> int:
    """Record weak negative labels (implicit feedback) for kept conversations that nobody complained
    of in time, as far as they are still `due_for_silence`; gives their number.
    """
    before = batch.now - policy.after_seconds
    names = audit_rows.due_for_silence(batch.connection, workspace, before, len(silent), silent)
    for name in names:
        record_outcome.record_silence(batch, workspace, name, policy.weight)
    return len(names)


def learn_from_endings(
    batch: Batch, workspace: str, policy: ResolvedPolicy, ended: Sequence[str]
) -> int:
    """Record weak negatives for kept conversations that have just been sampled and not drawn: those
    whose last offer was declined or ignored, and those that the bot closed as resolved; gives their
    number. An audit that was drawn says it better.
    """
    rows = audit_rows.unlabelled_endings(batch.connection, workspace, ended)
    for row in rows:
        if row.offered:
            record_outcome.record_declined(batch, workspace, row.id, row.offered)
        elif row.resolution == "resolved" and policy.weight > 0:
            record_outcome.record_resolved(batch, workspace, row.id, policy.weight)
    return len(rows)


def learn_from_quiet_declines(batch: Batch, workspace: str, names: Sequence[str]) -> int:
    """Record declined and ignored offers of conversations that fell silent and never closed."""
    rows = audit_rows.quiet_declines(batch.connection, workspace, names)
    for row in rows:
        record_outcome.record_declined(batch, workspace, row.id, row.offered)
    return len(rows)


def _audit_row(
    workspace: str, row: Any, result: Draw, seed: str, double_share: float, now: float
) -> dict[str, Any]:
    return {
        "id": new_id("a"),
        "workspace": workspace,
        "conversation_id": row.id,
        "status": "waiting" if result.drawn else "passed",
        "uniform": result.uniform,
        "targeted": result.targeted,
        "uniform_propensity": result.uniform_propensity,
        "targeted_propensity": result.targeted_propensity,
        "propensity": result.propensity,
        "seed": seed,
        "probability": row.probability,
        "threshold": row.threshold,
        "version": row.version,
        "position": row.position,
        "length": row.length,
        "wanted": 2 if uniform_variate(seed, "double", row.id) < double_share else 1,
        "reviews": 0,
        "verdict": None,
        "drawn_at": now,
        "offered_to": None,
        "offered_until": 0.0,
        "answered_at": None,
    }


def offer(batch: Batch, workspace: str, reviewer: str, policy: AuditBudget) -> dict[str, Any]:
    """The next audit for a reviewer, blind (without any score), leased for `offered_seconds`.

    One that is not answered by then is offered again, to anyone.
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
    fields = ("id", "author", "text", "at", "event", "scored")
    shown = turns[newest_within(turns, SHOWN_CHARS_MAX) :]
    transcript = [{name: getattr(turn, name) for name in fields} for turn in shown]
    audit = {"id": row.id, "conversation_id": row.conversation_id, "offered_until": until}
    return {"audit": audit | {"transcript": transcript}}


def skip(batch: Batch, workspace: str, name: str, reviewer: str) -> dict[str, Any]:
    """Skip an audit: it is offered to other reviewers, and not to this one again."""
    row = _require_audit(batch, workspace, name)
    _add_review(batch, row, reviewer, Verdict("skipped", "audit", reviewer))
    audit_rows.change(batch.connection, workspace, name, offered_to=None, offered_until=0.0)
    return {"audit_id": name, "status": row["status"]}


def answer(batch: Batch, workspace: str, name: str, verdict: Verdict) -> dict[str, Any]:
    """Record a reviewer's verdict: the first is the outcome, a second one measures agreement
    (kappa).

    The model's score is revealed only now. Raises Contradiction for a verdict that differs from
    this reviewer's earlier one, or comes after the last one wanted.
    """
    row = _require_audit(batch, workspace, name)
    earlier = [
        r
        for r in audit_rows.reviews(batch.connection, workspace, name)
        if r.reviewer == verdict.agent
    ]
    if earlier and (earlier[0].verdict, earlier[0].first_needed_message_id) != (
        verdict.verdict,
        verdict.first_needed_message_id,
    ):
        raise Contradiction(
            "reviewed_otherwise",
            f"{verdict.agent} answered audit {name!r} before: {earlier[0].verdict}",
            field="verdict",
            hint="correct the outcome with PUT /v1/outcomes/{id}",
        )
    if not earlier:
        if row["status"] == "answered":
            raise Contradiction("audit_answered", f"audit {name!r} was answered by another")
        row = _record_answer(batch, row, verdict)
    return _answer_json(row)


def _record_answer(batch: Batch, row: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
    workspace, name = row["workspace"], row["id"]
    record_outcome.record_for_audit(batch, workspace, row, verdict)
    _add_review(batch, row, verdict.agent, verdict)
    reviews = row["reviews"] + 1
    changes: dict[str, Any] = {"reviews": reviews, "offered_to": None, "offered_until": 0.0}
    if row["verdict"] is None:
        changes["verdict"] = verdict.verdict
    if reviews >= row["wanted"]:
        changes |= {"status": "answered", "answered_at": batch.now}
    audit_rows.change(batch.connection, workspace, name, **changes)
    return row | changes


def _add_review(batch: Batch, row: Mapping[str, Any], reviewer: str, verdict: Verdict) -> None:
    audit_rows.add_review(
        batch.connection,
        {
            "audit_id": row["id"],
            "reviewer": reviewer,
            "workspace": row["workspace"],
            "verdict": verdict.verdict,
            "first_needed_message_id": verdict.first_needed_message_id,
            "note": verdict.note,
            "at": batch.now,
        },
    )


def _answer_json(row: Mapping[str, Any]) -> dict[str, Any]:
    fields = ("conversation_id", "status", "probability", "threshold", "version", "propensity")
    return {"audit_id": row["id"]} | {name: row[name] for name in fields}


def _require_audit(batch: Batch, workspace: str, name: str) -> dict[str, Any]:
    row = audit_rows.audit(batch.connection, workspace, name)
    if row is None or row.status == "passed":
        raise NotFound("no_audit", f"there is no audit {name!r} in this workspace")
    return row._asdict()
