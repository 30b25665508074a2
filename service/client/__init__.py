"""HTTP client of Baton: `Baton`, `AsyncBaton`; it imports nothing else of Baton, and only httpx."""

from . import testing, webhooks
from .answers import (
    Appended,
    Closed,
    ConversationState,
    Decision,
    HandoffState,
    LateAdvice,
    OfferAnswered,
    RecordedOutcome,
    RefusedItem,
    Reply,
    StoredTurn,
    Words,
)
from .async_baton import AsyncBaton
from .baton import Baton
from .connection import ClientOptions
from .errors import BatonError, ConflictError, NotAnsweredError, RefusedError
from .event_stream import StreamEvent
from .retries import RetryPolicy

__all__ = [
    "Appended",
    "AsyncBaton",
    "Baton",
    "BatonError",
    "ClientOptions",
    "Closed",
    "ConflictError",
    "ConversationState",
    "Decision",
    "HandoffState",
    "LateAdvice",
    "NotAnsweredError",
    "OfferAnswered",
    "RecordedOutcome",
    "RefusedError",
    "RefusedItem",
    "Reply",
    "RetryPolicy",
    "StoredTurn",
    "StreamEvent",
    "Words",
    "testing",
    "webhooks",
]
