"""Feature attribution: which features move the champion's scores in recent conversations."""

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
"""Most conversations with an outcome that are sampled, the newest, however long the ledger is."""


def feature_influences(
    store: Store, workspace: str, names: Iterable[str], champion: ModelState
) -> Any:
    """The features with the greatest influence on the champion, in the newest of the conversations
    named (the newest last).
    """
    newest = list(dict.fromkeys(reversed(list(names))))[:CONVERSATIONS]
    sample = InfluenceSample()
    with store.read() as connection:
        for name in newest:
            sample.add(_scored_features(connection, workspace, name))
    return {
        "conversations": len(newest),
        "moving": [asdict(influence) for influence in sample.influences(champion.model)],
    }


def _scored_features(
    connection: Connection, workspace: str, name: str
) -> list[Mapping[str, float]]:
    state = EMPTY
    rows: list[Mapping[str, float]] = []
    for turn in conversation_rows.transcript(connection, workspace, name, 2**31 - 1):
        state = step(state, turn.message)
        if turn.scored:
            rows.append(features(state))
    return rows
