"""What the champion goes by in the newest conversations, for an evaluation's report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from experiments.evaluation.attribution import InfluenceSample
from learning.conversation.features import features
from learning.conversation.state import EMPTY, step
from learning.ledger.model_state import ModelState
from service.store.conversations import conversation_rows
from service.store.database.transactions import Store

CONVERSATIONS = 300
"""Newest conversations with an outcome that are looked at: so many, however long the ledger is."""


def insight(store: Store, workspace: str, names: Iterable[str], champion: ModelState) -> Any:
    """The names that move the champion most, of the conversations named (the newest last)."""
    newest = list(dict.fromkeys(reversed(list(names))))[:CONVERSATIONS]
    seen = InfluenceSample()
    with store.read() as connection:
        for name in newest:
            seen.add(_scored(connection, workspace, name))
    return {
        "conversations": len(newest),
        "moving": [asdict(one) for one in seen.influences(champion.model)],
    }


def _scored(connection: Connection, workspace: str, name: str) -> list[Mapping[str, float]]:
    state = EMPTY
    found: list[Mapping[str, float]] = []
    for turn in conversation_rows.transcript(connection, workspace, name, 2**31 - 1):
        state = step(state, turn.message)
        if turn.scored:
            found.append(features(state))
    return found
