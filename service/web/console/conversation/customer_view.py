"""Who the customer of a conversation is, as far as the bot said, and their other conversations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from service.store.conversations import search
from service.store.conversations.person_rows import CUSTOMER
from service.store.handoffs import handoff_rows

NAMES = ("customer_name", "name")
"""Attributes that say how the customer is called."""

OTHERS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class OtherConversation:
    """Another conversation of the customer: its state, and who has it; `handoff_id` is its newest
    handoff, `promised_at` when somebody was to get to it.
    """

    id: str
    last_at: float
    state: str
    handoff_id: str | None
    promised_at: float | None
    claimed_by: str | None = None


@dataclass(frozen=True, slots=True)
class CustomerView:
    """The customer: name and id where they are known, and their newest other conversations."""

    name: str | None
    id: str | None
    others: tuple[OtherConversation, ...]


def customer_view(
    connection: Connection, workspace: str, conversation: str, attributes: Mapping[str, Any]
) -> CustomerView:
    name = next((str(attributes[key]) for key in NAMES if attributes.get(key)), None)
    known = attributes.get(CUSTOMER)
    if known is None:
        return CustomerView(name, None, ())
    customer = f"{known:.0f}" if isinstance(known, float) and known.is_integer() else str(known)
    found = search.of_customer(connection, workspace, customer, OTHERS_SHOWN + 1)
    rows = [row for row in found if row.id != conversation][:OTHERS_SHOWN]
    handoffs = handoff_rows.newest_of(connection, workspace, [row.id for row in rows])
    return CustomerView(name, customer, tuple(_other(row, handoffs.get(row.id)) for row in rows))


def _other(row: Any, handoff: Any) -> OtherConversation:
    if handoff is None:
        state = "open" if row.status == "open" else "kept"
        return OtherConversation(row.id, row.last_at, state, None, None)
    promised = handoff.promised_at if handoff.status == "waiting" else None
    by = handoff.claimed_by if handoff.status == "claimed" else None
    return OtherConversation(row.id, row.last_at, handoff.status, handoff.id, promised, by)
