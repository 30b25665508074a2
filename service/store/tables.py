"""The database schema: SQLModel tables.

Times are seconds since the epoch, UTC. Everything belongs to a workspace, and every query names it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    Index,
    LargeBinary,
    String,
    UniqueConstraint,
    false,
    text,
)
from sqlmodel import Field, SQLModel


def _json() -> Any:
    return Field(sa_column=Column(JSON, nullable=False))


NOT_YET_SAMPLED = text("status = 'closed' AND NOT escalated AND NOT tossed")
"""Kept, closed conversations that were not sampled for audits yet: a partial index, so that finding
them takes no longer when many have ever closed."""


ANSWERED = text("answer IS NOT NULL")
"""Decisions to offer a person that the customer answered: few among all decisions."""


UNDISPATCHED = text("NOT dispatched")
"""Events of the outbox whose deliveries are yet to be made: few at any time."""


def _time(*, nullable: bool = False) -> Any:
    return Field(default=None, sa_column=Column(Double, nullable=nullable))


class Workspace(SQLModel, table=True):
    """`head` is the ledger's newest position, `versions` the newest version's number."""

    id: str = Field(primary_key=True)
    mode: str
    head: int = 0
    versions: int = 0
    created_at: float = _time()


class Key(SQLModel, table=True):
    """A bearer key; only its SHA-256 is kept. `name` is the user's id, or a bot's name. `sealed` is
    its secret for some minutes, encrypted with its maker's, for a repeated request.
    """

    id: str = Field(primary_key=True)
    workspace: str = Field(index=True)
    role: str
    name: str
    hash: str = Field(unique=True)
    created_at: float = _time()
    revoked_at: float | None = _time(nullable=True)
    expires_at: float | None = _time(nullable=True)
    last_used_at: float | None = _time(nullable=True)
    made_by: str | None
    sealed: str | None


class User(SQLModel, table=True):
    """A person; the id is actor and annotator, whatever key or sign-in they come by."""

    workspace: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    name: str
    teams: list[str] = _json()
    role: str
    made_by: str
    created_at: float = _time()


class SecurityEvent(SQLModel, table=True):
    """A line of the security log; triggers refuse to change or remove it."""

    __tablename__ = "security_event"
    id: int | None = Field(default=None, primary_key=True)
    at: float = _time()
    workspace: str | None
    kind: str
    actor: str
    subject: str
    address: str
    count: int


class Session(SQLModel, table=True):
    """Somebody signed in to the console with a key; only the cookie's SHA-256 is kept."""

    hash: str = Field(primary_key=True)
    key_id: str = Field(index=True)
    created_at: float = _time()
    expires_at: float = _time()


class Conversation(SQLModel, table=True):
    """`length` counts its messages; `begins` is the first place after the last handoff.

    The last four say what it is counted under: the `language` of its first message, the `version`
    and `team` of its newest decision or, once it was handed over, of its newest handoff, and the
    names of all triggers that `fired` in it, sorted, with a space between. `offer_id` is the
    decision to offer a person that the customer has yet to answer. `tossed` says that it was
    sampled after its end: drawn for an audit or not. `spoken` is the code of the language it is in,
    declared or recognised.
    """

    __table_args__ = (
        Index("conversation_by_status", "workspace", "status", "last_at"),
        Index(
            "conversation_untossed",
            "workspace",
            "closed_at",
            "id",
            sqlite_where=NOT_YET_SAMPLED,
            postgresql_where=NOT_YET_SAMPLED,
        ),
    )
    workspace: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    length: int
    begins: int
    status: str
    resolution: str | None
    handoff_id: str | None
    escalated: bool
    opened_at: float = _time()
    last_at: float = _time()
    closed_at: float | None = _time(nullable=True)
    language: str | None
    version: int | None
    team: str | None
    fired: str | None
    offer_id: str | None
    tossed: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=false()))
    spoken: str | None


class MessageRow(SQLModel, table=True):
    """A turn, at its place `seq` (from 1) in the conversation, as it was folded.

    `edits` is the id of the message that it is a newer version of. `removed` is the ledger position
    at which its words were removed.
    """

    __tablename__ = "message"
    __table_args__ = (UniqueConstraint("workspace", "conversation_id", "id"),)
    workspace: str = Field(primary_key=True)
    conversation_id: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    id: str
    author: str
    text: str
    at: float = _time()
    language: str | None
    bot: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    attributes: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    event: str | None
    scored: bool
    agent: str | None
    format: str | None
    attachments: list[Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    advice: dict[str, float] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    edits: str | None
    removed: int | None


class Decision(SQLModel, table=True):
    """The decision about a message; without a probability while a person had the conversation.

    `route` says how the team was chosen, and what the model suggested, where one was chosen. `say`
    are the words that the bot may show.
    """

    __table_args__ = (
        UniqueConstraint("workspace", "conversation_id", "seq"),
        Index(
            "decision_answered",
            "workspace",
            "id",
            sqlite_where=ANSWERED,
            postgresql_where=ANSWERED,
        ),
    )
    id: str = Field(primary_key=True)
    workspace: str
    conversation_id: str
    seq: int
    message_id: str
    action: str
    probability: float | None = _time(nullable=True)
    uncertainty: float | None = _time(nullable=True)
    offer_threshold: float = _time()
    escalate_threshold: float = _time()
    triggers: list[Any] = _json()
    reasons: list[Any] = _json()
    handoff: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    team: str
    priority: int
    route: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    by_rule: bool
    version: int
    position: int
    build: str
    answer: str | None
    at: float = _time()
    say: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))
    language: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))


class Handoff(SQLModel, table=True):
    """An episode with a person. `seq` is the message that led to it, `begins` its first.
    `version` and `fired` are those of its decision, as in `Conversation`.
    `promised_at`: when its team is there, if nobody of it was when it was opened. `changed_at`:
    when the row last changed; subscribers of the queue poll for what changed since.
    """

    __table_args__ = (
        Index("handoff_queue", "workspace", "status", "priority", "opened_at"),
        Index("handoff_of_conversation", "workspace", "conversation_id"),
        Index("handoff_news", "workspace", "changed_at"),
    )
    id: str = Field(primary_key=True)
    workspace: str
    conversation_id: str
    decision_id: str | None
    begins: int
    seq: int
    by_rule: bool
    version: int
    fired: str
    team: str
    priority: int
    status: str
    claimed_by: str | None
    opened_at: float = _time()
    claimed_at: float | None = _time(nullable=True)
    claim_expires_at: float | None = _time(nullable=True)
    ended_at: float | None = _time(nullable=True)
    promised_at: float | None = _time(nullable=True)
    changed_at: float = _time()
    opened_by: str = Field(
        sa_column=Column(String, nullable=False, server_default=text("'decision'"))
    )
    reason: str | None
    opening_note: str | None
    raised_at: float | None = _time(nullable=True)


class Note(SQLModel, table=True):
    """An agent's note on a handoff for other agents, or the `team` they moved it to, or both."""

    __tablename__ = "remark"
    __table_args__ = (Index("remark_of_conversation", "workspace", "conversation_id"),)
    id: str = Field(primary_key=True)
    workspace: str
    conversation_id: str
    handoff_id: str
    agent: str
    team: str | None
    text: str | None
    at: float = _time()


class Outcome(SQLModel, table=True):
    """A label as it is now; `asked`: the chance with which a draw asked for it, if one did."""

    __table_args__ = (
        Index("outcome_of_conversation", "workspace", "conversation_id"),
        Index("outcome_of_agent", "workspace", "agent", "at"),
    )
    id: str = Field(primary_key=True)
    workspace: str
    conversation_id: str
    handoff_id: str | None
    verdict: str
    first_needed_message_id: str | None
    source: str
    agent: str
    team: str | None
    reason: str | None
    note: str | None
    fingerprint: str
    position: int
    at: float = _time()
    retracted_at: float | None = _time(nullable=True)
    asked: float | None = _time(nullable=True)


class Audit(SQLModel, table=True):
    """The two draws (uniform, targeted) of a kept conversation, made once, and its review if drawn.
    `status` is passed (not drawn), waiting or answered; `wanted` reviews are requested. The model's
    score (`probability`, `threshold`) is not shown before the answer: the review is blind.
    `disagreement`: that draw's chance; `actions`: of champion and challengers, as levels 0 to 2.
    """

    __table_args__ = (
        Index("audit_queue", "workspace", "status", "drawn_at"),
        UniqueConstraint("workspace", "conversation_id"),
    )
    id: str = Field(primary_key=True)
    workspace: str
    conversation_id: str
    status: str
    uniform: bool
    targeted: bool
    uniform_propensity: float = _time()
    targeted_propensity: float = _time()
    propensity: float = _time()
    seed: str
    probability: float = _time()
    threshold: float = _time()
    version: int
    position: int
    length: int
    wanted: int
    reviews: int
    verdict: str | None
    drawn_at: float = _time()
    offered_to: str | None
    offered_until: float = _time()
    answered_at: float | None = _time(nullable=True)
    disagreement: float = Field(sa_column=Column(Double, nullable=False, server_default=text("0")))
    actions: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True)))


class Review(SQLModel, table=True):
    """One reviewer's answer to one audit; `skipped` if they could not answer it."""

    __table_args__ = (Index("review_of_reviewer", "workspace", "reviewer", "at"),)
    audit_id: str = Field(primary_key=True)
    reviewer: str = Field(primary_key=True)
    workspace: str
    verdict: str
    first_needed_message_id: str | None
    note: str | None
    at: float = _time()


class LedgerRow(SQLModel, table=True):
    """An entry of the ledger, the append-only event log; `position` is gapless in a workspace."""

    __tablename__ = "ledger"
    __table_args__ = (Index("ledger_by_kind", "workspace", "kind", "position"),)
    workspace: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    kind: str
    body: dict[str, Any] = _json()
    actor: str
    at: float = _time()


class Version(SQLModel, table=True):
    """A checkpoint. `line` is the switch it descends from, 0 for one that never served.

    `without` is what the line left out while it learned; `registry_version` is its number in
    MLflow once published, and `registry_digest` that of its files there. `build` and `commit` are
    of the code that made it; `blocked` says why it may not be switched to.
    """

    __table_args__ = (
        Index("version_of_line", "workspace", "line", "position"),
        Index("version_of_registry", "workspace", "registry_version", "number"),
    )
    workspace: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    recipe: str
    line: int
    position: int
    digest: str
    parent: int | None
    reason: str
    without: dict[str, Any] = _json()
    metrics: dict[str, Any] = _json()
    state: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: float = _time()
    registry_version: str | None
    build: str
    commit: str | None
    blocked: str | None
    registry_digest: str | None


class Challenger(SQLModel, table=True):
    """A challenger: a model line that learns, or is `frozen`, in the champion's shadow.

    `status` is asked (jobs have yet to build it), open, closed or failed. `state` is its model and
    `duel` its promotion test, both up to `position`; one row of each of the `slot`s 1 to 4 is asked
    or open.
    """

    __table_args__ = (Index("challenger_by_status", "workspace", "status"),)
    workspace: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    slot: int
    status: str
    recipe: str
    version: int | None
    frozen: bool
    without: dict[str, Any] = _json()
    why: str
    opened_by: str
    closed_why: str | None
    closed_by: str | None
    built: int
    position: int
    duel: dict[str, Any] = _json()
    state: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))
    asked_at: float = _time()
    opened_at: float | None = _time(nullable=True)
    closed_at: float | None = _time(nullable=True)


class Event(SQLModel, table=True):
    """An event for people: an alarm, a recommendation, a switch, a challenger.

    Ids sort by time; `facts` is plain JSON with a `sentence` in it.
    """

    __table_args__ = (Index("event_of_workspace", "workspace", "id"),)
    id: str = Field(primary_key=True)
    workspace: str
    kind: str
    facts: dict[str, Any] = _json()
    at: float = _time()


class OutboxEvent(SQLModel, table=True):
    """Something that happened, for bots and webhooks (transactional outbox); `seq` is the message
    whose text goes with it. `dispatched`: its deliveries are made.
    """

    __tablename__ = "outbox_event"
    __table_args__ = (
        Index("outbox_of_workspace", "workspace", "at"),
        Index(
            "outbox_undispatched",
            "at",
            "id",
            sqlite_where=UNDISPATCHED,
            postgresql_where=UNDISPATCHED,
        ),
    )
    id: str = Field(primary_key=True)
    workspace: str
    type: str
    conversation_id: str | None
    seq: int | None
    data: dict[str, Any] = _json()
    dispatched: bool
    at: float = _time()


class Webhook(SQLModel, table=True):
    """Where events are sent: an address, the types it wants (all, if none are named), its sealed
    secret, and while it rotates the one before. `disabled_why`: nothing is sent any more.
    """

    __table_args__ = (Index("webhook_of_workspace", "workspace", "id"),)
    id: str = Field(primary_key=True)
    workspace: str
    url: str
    types: list[Any] = _json()
    with_text: bool
    secret: str
    previous_secret: str | None
    previous_until: float | None = _time(nullable=True)
    created_by: str
    created_at: float = _time()
    disabled_at: float | None = _time(nullable=True)
    disabled_why: str | None


class Delivery(SQLModel, table=True):
    """An event on its way to a webhook: waiting until `due_at`, sending, done or failed."""

    __table_args__ = (
        Index("delivery_due", "status", "due_at"),
        Index("delivery_of_webhook", "webhook_id", "created_at"),
        UniqueConstraint("webhook_id", "event_id"),
    )
    id: str = Field(primary_key=True)
    workspace: str
    webhook_id: str
    event_id: str
    type: str
    status: str
    attempts: int
    due_at: float = _time()
    created_at: float = _time()
    tried_at: float | None = _time(nullable=True)
    done_at: float | None = _time(nullable=True)
    http_status: int | None
    error: str | None


class Alias(SQLModel, table=True):
    """An MLflow alias as Baton last wrote or saw it: a change since is an engineer's request.

    `intended` is what Baton was about to write (write-ahead): seen at MLflow, it is Baton's own.
    `refused` are the newest requests that were reverted, each with its reason.
    """

    workspace: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    registry_version: str | None
    intended: str | None
    refused: list[Any] = _json()
    at: float = _time()


class Evaluation(SQLModel, table=True):
    """A finished evaluation; `run_id` is its MLflow run once published."""

    __table_args__ = (
        Index("evaluation_of_workspace", "workspace", "position"),
        Index("evaluation_of_run", "workspace", "run_id", "position"),
    )
    id: str = Field(primary_key=True)
    workspace: str
    position: int
    report: dict[str, Any] = _json()
    run_id: str | None
    at: float = _time()


class Reopening(SQLModel, table=True):
    """A reopening: a customer came back to a conversation that was closed and never escalated.

    `length` is its number of messages at its end, `at` when they came back. `status` is open until
    it is judged: missed or passed.
    """

    __table_args__ = (Index("reopening_by_status", "workspace", "status"),)
    workspace: str = Field(primary_key=True)
    conversation_id: str = Field(primary_key=True)
    length: int = Field(primary_key=True)
    resolution: str | None
    status: str
    closed_at: float = _time()
    at: float = _time()


class AnnotatorReview(SQLModel, table=True):
    """The stored annotator panel of a workspace, updated up to a ledger position
    (`service.outcomes.annotator_review`).
    """

    __tablename__ = "rating"
    workspace: str = Field(primary_key=True)
    position: int
    state: dict[str, Any] = _json()
    at: float = _time()


class Lease(SQLModel, table=True):
    """A lease by name (leader election): one `holder` until `expires_at`."""

    name: str = Field(primary_key=True)
    holder: str
    expires_at: float = _time()


class IdempotencyRecord(SQLModel, table=True):
    """The stored response to a request that carried an Idempotency-Key."""

    __tablename__ = "remembered"
    workspace: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    fingerprint: str
    answer: dict[str, Any] = _json()
    at: float = _time()
