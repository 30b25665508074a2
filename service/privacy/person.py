"""Data subject requests: access to all that is stored of a person, and its erasure with a receipt.

A person is whoever a bot names with `attributes.customer_id`. The receipt is read from the ledger,
which keeps a fingerprint of the person and nothing else of them: the same request gets it again.
"""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import Connection

from service.privacy.erasure import erase
from service.privacy.originals import originals
from service.runtime.errors import Contradiction, NotFound
from service.runtime.settings import Settings
from service.store.conversations import conversation_rows, person_rows
from service.store.database.transactions import Store
from service.store.handoffs import handoff_rows
from service.store.labels import audit_rows, outcome_rows
from service.store.ledger import mlflow_rows

CONVERSATIONS_PER_PAGE = 100
"""Conversations of a person that one answer holds."""

STAYS = (
    "the ids of the conversations, their times and verdicts: they are entries of the ledger",
    "what the model learned, until the next exact rebuild, which jobs make for erasures",
    "backups made before: delete them, or erase again after one is restored",
)
"""What an erasure does not reach, told with each receipt."""


def fingerprint(workspace: str, customer: str) -> str:
    """What stands for a person where nothing of them may."""
    return hashlib.sha256(f"{workspace}\0{customer}".encode()).hexdigest()[:32]


def everything(
    connection: Connection, settings: Settings, workspace: str, customer: str, after: str = ""
) -> dict[str, Any]:
    """All that is stored of a person, a page of conversations at a time; NotFound."""
    names = person_rows.conversations_of(
        connection, workspace, customer, after, CONVERSATIONS_PER_PAGE + 1
    )
    if not names and not after:
        raise _unknown(workspace, customer)
    page = names[:CONVERSATIONS_PER_PAGE]
    return {
        "customer_id": customer,
        "conversations": [_conversation(connection, settings, workspace, name) for name in page],
        "next": page[-1] if len(names) > len(page) else None,
    }


def _conversation(
    connection: Connection, settings: Settings, workspace: str, name: str
) -> dict[str, Any]:
    kept = originals(connection, settings, workspace, name)
    row = conversation_rows.conversation(connection, workspace, name)
    audit = audit_rows.of_conversation(connection, workspace, name)
    parts: dict[str, Any] = {
        "messages": conversation_rows.messages(connection, workspace, name),
        "decisions": conversation_rows.decisions(connection, workspace, name),
        "handoffs": handoff_rows.of_conversation(connection, workspace, name),
        "notes": person_rows.notes(connection, workspace, name),
        "outcomes": outcome_rows.of_conversation(connection, workspace, name),
        "audits": [] if audit is None else [audit],
        "reviews": [] if audit is None else person_rows.reviews(connection, audit.id),
    }
    result = _row(row) | {part: [_row(one) for one in rows] for part, rows in parts.items()}
    for message in result["messages"]:
        if message["id"] in kept:
            message["original"] = kept[message["id"]]
    return result


def _row(row: Any) -> dict[str, Any]:
    hidden = ("workspace", "fingerprint", "seed")
    return {name: value for name, value in row._asdict().items() if name not in hidden}


def erase_person(store: Store, workspace: str, customer: str, *, actor: str) -> dict[str, Any]:
    """Erase all conversations of a person; gives the receipt, the same one when asked again.

    Nothing is erased where a person is at one of them. NotFound, Contradiction.
    """
    person = fingerprint(workspace, customer)
    with store.read() as connection:
        names = person_rows.conversations_of(connection, workspace, customer)
        if not names and not person_rows.erasures_of(connection, workspace, person):
            raise _unknown(workspace, customer)
        rows = [conversation_rows.conversation(connection, workspace, name) for name in names]
    busy = [row.id for row in rows if row is not None and row.handoff_id is not None]
    if busy:
        raise Contradiction(
            "handoff_open",
            f"a person is at {len(busy)} of the conversations, such as {busy[0]!r}",
            hint="resolve or return their handoffs first; nothing was erased",
        )
    for name in names:
        erase(store, workspace, name, actor=actor, person=person)
    return receipt(store, workspace, customer)


def receipt(store: Store, workspace: str, customer: str) -> dict[str, Any]:
    """What was erased of a person, by whom and when, and what that does not reach."""
    person = fingerprint(workspace, customer)
    emptied = store.truncate_log()
    with store.read() as connection:
        rows = person_rows.erasures_of(connection, workspace, person)
        left = person_rows.conversations_of(connection, workspace, customer)
        stale = len(mlflow_rows.stale_runs(connection, workspace))
    waits = [] if emptied else ["the write-ahead log holds it until the next quiet moment"]
    if stale:
        waits.append(f"MLflow shows {stale} evaluations that name one until jobs replace them")
    return {
        "person": person,
        "complete": not left and not waits,
        "conversations": [
            {
                "id": row.body["conversation_id"],
                "position": row.position,
                "outcomes": len(row.body["replaces_all"]),
                "erased_by": row.actor,
                "erased_at": row.at,
            }
            for row in rows
        ],
        "waits": waits,
        "stays": list(STAYS),
    }


def _unknown(workspace: str, customer: str) -> NotFound:
    return NotFound(
        "unknown_person",
        f"no message in {workspace!r} carries the customer_id {customer!r}",
        field="customer_id",
        hint="bots say whose conversation it is with attributes.customer_id",
    )
