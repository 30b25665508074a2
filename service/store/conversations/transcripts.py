"""Bulk load of transcripts, as `learning` folds them."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, select

from learning.conversation.state import BotReport, Message
from learning.ledger.model_state import Turn
from service.store.database.transactions import table
from service.store.tables import MessageRow

_message = table(MessageRow)
_TRANSCRIPTS = (
    select(
        _message.c.conversation_id,
        _message.c.seq,
        _message.c.scored,
        _message.c.id,
        _message.c.author,
        _message.c.text,
        _message.c.at,
        _message.c.language,
        _message.c.bot,
        _message.c.attributes,
        _message.c.event,
        _message.c.format,
        _message.c.advice,
        _message.c.edits,
        _message.c.removed,
    )
    .where(
        _message.c.workspace == bindparam("workspace"),
        _message.c.conversation_id.in_(bindparam("conversations", expanding=True)),
        _message.c.seq <= bindparam("until"),
    )
    .order_by(_message.c.conversation_id, _message.c.seq)
)


def transcripts(
    connection: Connection, workspace: str, lengths: Mapping[str, int]
) -> dict[str, list[Turn]]:
    """The first turns of conversations by id, `lengths` of each, in one query.

    One that has fewer, or none, gives what it has.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in lengths}
    parameters = {"workspace": workspace, "conversations": sorted(lengths)}
    rows = connection.execute(
        _TRANSCRIPTS, parameters | {"until": max(lengths.values(), default=0)}
    )
    for row in rows.all():
        name, seq, scored, message, author, text, at, language, bot, attributes, *others = row
        if seq <= lengths[name]:
            report = BotReport(**bot) if bot else None
            pairs = tuple(sorted(attributes.items())) if attributes else ()
            event, written, advice, edits, removed = others
            folded = Message(
                message,
                author,
                text,
                at,
                language,
                report,
                pairs,
                event,
                written,
                advice=tuple(sorted((advice or {}).items())),
                edits=edits,
            )
            turns[name].append(Turn(folded, scored, removed or 0))
    return turns
