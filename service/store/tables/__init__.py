"""The database schema: SQLModel tables.

Times are seconds since the epoch, UTC. Everything belongs to a workspace, and every query names it.
"""

from service.store.tables.access import (
    IdempotencyRecord,
    Key,
    Lease,
    Presence,
    SecurityEvent,
    Session,
    User,
    Workspace,
)
from service.store.tables.connections import (
    ConnectionDelivery,
    ConnectionRow,
    ConversationLink,
    InboxEntry,
)
from service.store.tables.conversations import (
    ANSWERED,
    HELD_OUT,
    NOT_YET_SAMPLED,
    Conversation,
    Decision,
    Judgement,
    MessageRow,
    Original,
    Reopening,
)
from service.store.tables.handoffs import CannedReply, Handoff, Note
from service.store.tables.labels import (
    AnnotatorReview,
    Audit,
    InferredLabel,
    Outcome,
    Review,
)
from service.store.tables.ledger import Alias, Challenger, Evaluation, Event, LedgerRow, Version
from service.store.tables.outbox import UNDISPATCHED, Delivery, OutboxEvent, Webhook

__all__ = [
    "ANSWERED",
    "HELD_OUT",
    "NOT_YET_SAMPLED",
    "UNDISPATCHED",
    "Alias",
    "AnnotatorReview",
    "Audit",
    "CannedReply",
    "Challenger",
    "ConnectionDelivery",
    "ConnectionRow",
    "Conversation",
    "ConversationLink",
    "Decision",
    "Delivery",
    "Evaluation",
    "Event",
    "Handoff",
    "IdempotencyRecord",
    "InboxEntry",
    "InferredLabel",
    "Judgement",
    "Key",
    "Lease",
    "LedgerRow",
    "MessageRow",
    "Note",
    "Original",
    "OutboxEvent",
    "Outcome",
    "Presence",
    "Reopening",
    "Review",
    "SecurityEvent",
    "Session",
    "User",
    "Version",
    "Webhook",
    "Workspace",
]
