"""A turn that another system calls Baton at, and is answered with the decision.

Its events pass no inbox: whoever calls waits, and calls again under the same message id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from learning.conversation.state import unread_chars
from service.connections.inbox.apply_events import to_message
from service.connections.kinds.contract import Arrival, MessageAdded
from service.connections.known_connections import KnownConnection
from service.runtime.errors import RequestRefused
from service.scoring.decide import ScoreCommand
from service.scoring.engine import Engine
from service.store.conversations.batch import Batch
from service.store.ledger import connection_rows

_log = structlog.get_logger("baton.inbox")


async def decide_turn(
    engine: Engine, known: KnownConnection, arrival: Arrival
) -> Mapping[str, Any] | None:
    """The decision about the newest message; None where there is none to decide about, or Baton
    cannot: the bot has to go on.
    """
    events = known.kind.read(arrival.event, {}, known.config).events
    turns = [to_message(one) for one in events if isinstance(one, MessageAdded)]
    if not turns or turns[-1].author != "user":
        return None
    name = known.conversation_id(arrival.conversation)
    try:
        *history, message = await engine.read_texts(known.workspace, name, turns)
        command = ScoreCommand(known.workspace, name, message, tuple(history))

        def decide(batch: Batch) -> Mapping[str, Any]:
            link = connection_rows.link(batch.connection, known.workspace, name)
            answer = engine.decide_in(batch, command)
            if link is None:
                row = {
                    "workspace": known.workspace,
                    "conversation_id": name,
                    "connection_id": known.id,
                    "native_id": arrival.conversation,
                    "state": {},
                    "heard_at": batch.now,
                }
                connection_rows.save_link(batch.connection, row)
            return answer

        return await engine.run(
            known.workspace,
            decide,
            needs=command.lock_targets,
            appends=False,
            chars=unread_chars(turns),
        )
    except RequestRefused as refusal:
        _log.warning("turn_not_decided", conversation=name, why=refusal.message)
        return None
