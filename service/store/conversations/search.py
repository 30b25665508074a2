"""Search of kept conversations: by id, or by words in the newest ones (a bounded scan).

There is no full-text index: the scan is bounded, and the result says how far it went.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Text,
    and_,
    case,
    cast,
    func,
    or_,
    select,
    union_all,
)

from learning.ledger.lessons import WEAK_SOURCES
from service.store.conversations.person_rows import CUSTOMER, spellings
from service.store.database.transactions import table
from service.store.tables import Conversation, MessageRow, Outcome

SCANNED_MAX = 2000
"""Kept conversations that one search scans, the newest first."""

RESULTS_MAX = 25

_conversation = table(Conversation)
_message = table(MessageRow)
_outcome = table(Outcome)


@dataclass(frozen=True, slots=True)
class SearchResults:
    """A page of results, the newest first, and how far the scan went.

    `before` is the cursor of the next page: `last_at` of the oldest one scanned, None at the end.
    `looked_at` is the number scanned, `cut` whether more matched than are shown.
    """

    conversations: Sequence[dict[str, Any]]
    looked_at: int
    before: float | None
    cut: bool


def _kept(workspace: str) -> ColumnElement[bool]:
    return and_(
        _conversation.c.workspace == workspace,
        _conversation.c.status == "closed",
        ~_conversation.c.escalated,
    )


def kept_by_id(connection: Connection, workspace: str, name: str) -> Any | None:
    """The kept conversation with this id, if there is one."""
    return connection.execute(
        select(_conversation).where(_kept(workspace), _conversation.c.id == name)
    ).one_or_none()


def search_kept(
    connection: Connection, workspace: str, text: str, before: float | None = None
) -> SearchResults:
    """Kept conversations with all words of `text` in one message, its attributes, or the id.

    Without words, the newest ones. Each shows its first matching message, the customer's before
    others'.
    """
    query = select(_conversation.c.id, _conversation.c.last_at).where(_kept(workspace))
    if before is not None:
        query = query.where(_conversation.c.last_at < before)
    query = query.order_by(_conversation.c.last_at.desc(), _conversation.c.id).limit(SCANNED_MAX)
    scanned = query.subquery()
    count, oldest = connection.execute(select(func.count(), func.min(scanned.c.last_at))).one()
    words = text.split()[:8]
    customer_seq = func.min(case((_message.c.author == "user", _message.c.seq)))
    rows = connection.execute(
        select(
            scanned.c.id,
            scanned.c.last_at,
            func.coalesce(customer_seq, func.min(_message.c.seq)).label("seq"),
        )
        .select_from(
            scanned.join(
                _message,
                and_(_message.c.workspace == workspace, _message.c.conversation_id == scanned.c.id),
            )
        )
        .where(*[_contains(word) for word in words])
        .group_by(scanned.c.id, scanned.c.last_at)
        .order_by(scanned.c.last_at.desc(), scanned.c.id)
        .limit(RESULTS_MAX + 1)
    ).all()
    cut, rows = len(rows) > RESULTS_MAX, rows[:RESULTS_MAX]
    next_before = rows[-1].last_at if cut else oldest if count == SCANNED_MAX else None
    return SearchResults(_results(connection, workspace, rows), count, next_before, cut)


def _contains(word: str) -> ColumnElement[bool]:
    """The condition that a word is in a message, in its attributes, or in the id.

    Attributes are stored as JSON, in which other than plain letters are written with backslashes.
    """
    escaped = json.dumps(word)[1:-1]
    return or_(
        _message.c.text.icontains(word, autoescape=True),
        cast(_message.c.attributes, Text).icontains(escaped, autoescape=True),
        _message.c.conversation_id.icontains(word, autoescape=True),
    )


def _results(connection: Connection, workspace: str, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """The results as plain JSON, with the matching message and the conversation's verdict."""
    if not rows:
        return []
    names = [row.id for row in rows]
    matches = or_(
        *[and_(_message.c.conversation_id == row.id, _message.c.seq == row.seq) for row in rows]
    )
    texts = {
        row.conversation_id: row
        for row in connection.execute(
            select(
                _message.c.conversation_id,
                _message.c.text,
                _message.c.author,
                _message.c.attributes,
            ).where(_message.c.workspace == workspace, matches)
        )
    }
    verdicts = {
        row.conversation_id: row.verdict
        for row in connection.execute(
            select(_outcome.c.conversation_id, _outcome.c.verdict).where(
                _outcome.c.workspace == workspace,
                _outcome.c.conversation_id.in_(names),
                _outcome.c.handoff_id.is_(None),
                _outcome.c.retracted_at.is_(None),
                _outcome.c.source.not_in(WEAK_SOURCES),
            )
        )
    }
    return [
        {
            "id": row.id,
            "last_at": row.last_at,
            "text": texts[row.id].text,
            "author": texts[row.id].author,
            "attributes": texts[row.id].attributes or {},
            "verdict": verdicts.get(row.id),
        }
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Page:
    """Conversations, the last heard of first; `after` is where the next page begins, if any."""

    rows: Sequence[Row[Any]]
    after: tuple[float, str] | None


def conversations(
    connection: Connection,
    workspace: str,
    *,
    status: str | None = None,
    text: str = "",
    customer: str | None = None,
    after: tuple[float, str] | None = None,
    most: int = 50,
) -> Page:
    """A page of a workspace's conversations (keyset pagination by `last_at` and id): of one status
    or of all; with a text those in one of whose messages all its words stand, with a customer
    (`attributes.customer_id`) theirs.

    With either the newest SCANNED_MAX of them are looked through, else as many as are shown.
    """
    scans = bool(text) or customer is not None
    reach = SCANNED_MAX if scans else most + 1
    looked = union_all(
        *(
            select(_newest(workspace, name, after, reach).subquery())
            for name in ([status] if status is not None else ("open", "closed"))
        )
    ).subquery()
    order = (looked.c.last_at.desc(), looked.c.id)
    near = connection.execute(select(looked.c.id, looked.c.last_at).order_by(*order).limit(reach))
    names = {row.id: row.last_at for row in near}
    found = list(names)
    if customer is not None:
        theirs = _with_message(connection, workspace, found, _is_of(customer))
        found = [name for name in found if name in theirs]
    if text:
        having = [_contains(word) for word in text.split()[:8]]
        matching = _with_message(connection, workspace, found, *having)
        found = [name for name in found if name in matching]
    shown = found[:most]
    last = None
    if len(found) > most:
        last = shown[-1]
    elif scans and len(names) == SCANNED_MAX:
        last = list(names)[-1]
    rows = connection.execute(
        select(_conversation)
        .where(_conversation.c.workspace == workspace, _conversation.c.id.in_(shown))
        .order_by(_conversation.c.last_at.desc(), _conversation.c.id)
    ).all()
    return Page(rows, None if last is None else (names[last], last))


EXCERPT_CHARS_MAX = 240


def excerpts(
    connection: Connection, workspace: str, names: Sequence[str], text: str
) -> dict[str, str]:
    """What to show of conversations that were found: the beginning of the first message in which
    all words of a text stand, of the customer's before others'.
    """
    seq = func.coalesce(
        func.min(case((_message.c.author == "user", _message.c.seq))), func.min(_message.c.seq)
    )
    first = (
        select(_message.c.conversation_id, seq.label("seq"))
        .where(
            _message.c.workspace == workspace,
            _message.c.conversation_id.in_(names),
            *[_contains(word) for word in text.split()[:8]],
        )
        .group_by(_message.c.conversation_id)
        .subquery()
    )
    rows = connection.execute(
        select(
            _message.c.conversation_id,
            func.substr(_message.c.text, 1, EXCERPT_CHARS_MAX).label("said"),
        )
        .join(
            first,
            and_(
                _message.c.conversation_id == first.c.conversation_id,
                _message.c.seq == first.c.seq,
            ),
        )
        .where(_message.c.workspace == workspace)
    )
    return {row.conversation_id: row.said for row in rows}


CUSTOMER_SCANNED_MAX = 500
"""Conversations in which a customer's others are looked for, the newest of each status."""


def of_customer(
    connection: Connection, workspace: str, customer: str, most: int
) -> Sequence[Row[Any]]:
    """The newest conversations of a customer (`attributes.customer_id`), the last heard of first;
    a bounded scan, since every page of a conversation asks for them.
    """
    near = union_all(
        *(
            select(_newest(workspace, status, None, CUSTOMER_SCANNED_MAX).subquery())
            for status in ("open", "closed")
        )
    ).subquery()
    theirs = select(_message.c.conversation_id).where(
        _message.c.workspace == workspace,
        _message.c.conversation_id.in_(select(near.c.id)),
        _is_of(customer),
    )
    query = select(_conversation).where(
        _conversation.c.workspace == workspace, _conversation.c.id.in_(theirs)
    )
    order = (_conversation.c.last_at.desc(), _conversation.c.id)
    return connection.execute(query.order_by(*order).limit(most)).all()


def _newest(workspace: str, status: str, after: tuple[float, str] | None, most: int) -> Any:
    """Ids of the conversations of a status, the last heard of first."""
    found = select(_conversation.c.id, _conversation.c.last_at).where(
        _conversation.c.workspace == workspace, _conversation.c.status == status
    )
    if after is not None:
        at, name = after
        found = found.where(
            _conversation.c.last_at <= at,
            or_(_conversation.c.last_at < at, _conversation.c.id > name),
        )
    return found.order_by(_conversation.c.last_at.desc(), _conversation.c.id).limit(most)


def _with_message(
    connection: Connection, workspace: str, names: Sequence[str], *having: ColumnElement[bool]
) -> set[str]:
    """Which of these conversations have a message of which all this is true."""
    rows = connection.execute(
        select(_message.c.conversation_id)
        .where(_message.c.workspace == workspace, _message.c.conversation_id.in_(names), *having)
        .distinct()
    )
    return {row.conversation_id for row in rows}


def _is_of(customer: str) -> ColumnElement[bool]:
    customer_id = cast(_message.c.attributes[CUSTOMER].as_string(), Text)
    return and_(_message.c.attributes.is_not(None), customer_id.in_(list(spellings(customer))))
