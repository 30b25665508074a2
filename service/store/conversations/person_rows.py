"""Rows of a person, whom bots name with `attributes.customer_id`: which conversations are theirs,
and what else names these.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Text, cast, delete, or_, select

from service.store.database.transactions import table
from service.store.tables import (
    Handoff,
    IdempotencyRecord,
    LedgerRow,
    MessageRow,
    Note,
    Review,
)

CUSTOMER = "customer_id"
"""The attribute that says whose conversation it is."""

_handoff = table(Handoff)
_ledger = table(LedgerRow)
_message = table(MessageRow)
_note = table(Note)
_remembered = table(IdempotencyRecord)
_review = table(Review)


def conversations_of(
    connection: Connection, workspace: str, customer: str, after: str = "", most: int | None = None
) -> Sequence[str]:
    """Conversations in which a message carries this customer's id, in order of their ids."""
    customer_id = cast(_message.c.attributes[CUSTOMER].as_string(), Text)
    query = (
        select(_message.c.conversation_id)
        .distinct()
        .where(
            _message.c.workspace == workspace,
            _message.c.attributes.is_not(None),
            customer_id.in_(list(spellings(customer))),
            _message.c.conversation_id > after,
        )
        .order_by(_message.c.conversation_id)
        .limit(most)
    )
    return connection.execute(query).scalars().all()


def spellings(customer: str) -> Iterator[str]:
    """The id as text, and as the number that it may have been sent as."""
    yield customer
    if customer.isascii() and customer.isdecimal():
        yield f"{customer}.0"


def notes(connection: Connection, workspace: str, conversation: str) -> Sequence[Row[Any]]:
    return connection.execute(
        select(_note)
        .where(_note.c.workspace == workspace, _note.c.conversation_id == conversation)
        .order_by(_note.c.at, _note.c.id)
    ).all()


def reviews(connection: Connection, audit: str) -> Sequence[Row[Any]]:
    return connection.execute(
        select(_review).where(_review.c.audit_id == audit).order_by(_review.c.at)
    ).all()


def erasures_of(connection: Connection, workspace: str, person: str) -> Sequence[Row[Any]]:
    """The ledger's entries by which a person's conversations were erased, in order."""
    return connection.execute(
        select(_ledger)
        .where(
            _ledger.c.workspace == workspace,
            _ledger.c.kind == "erasure",
            _ledger.c.body["person"].as_string() == person,
        )
        .order_by(_ledger.c.position)
    ).all()


def forget_answers(connection: Connection, workspace: str, conversations: Collection[str]) -> None:
    """Delete remembered answers (Idempotency-Key) that name a conversation or its handoffs."""
    handoffs = connection.execute(
        select(_handoff.c.id).where(
            _handoff.c.workspace == workspace, _handoff.c.conversation_id.in_(conversations)
        )
    ).scalars()
    answer = cast(_remembered.c.answer, Text)
    for name in (*conversations, *handoffs):
        connection.execute(
            delete(_remembered).where(
                _remembered.c.workspace == workspace,
                or_(*(answer.contains(x, autoescape=True) for x in {name, json.dumps(name)[1:-1]})),
            )
        )
