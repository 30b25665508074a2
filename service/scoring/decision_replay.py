"""Deciding a past decision again: same text, same position, same score, to the bit."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from experiments.build_info import build_id
from learning.conversation.state import fold
from learning.ledger.model_state import ModelState
from service.scoring.decide import compute_decision
from service.store.conversations import conversation_rows
from service.store.database.transactions import Store
from service.store.ledger import entries
from service.versions.restore import TextRemovedError, advance, restore

_COMPARED = (
    "action",
    "probability",
    "uncertainty",
    "offer_threshold",
    "escalate_threshold",
    "triggers",
    "reasons",
    "team",
    "priority",
    "route",
)


class DecisionReplay:
    """Stands at past positions, outside the engine. Keeps the last standing: decisions replayed
    in their order cost one pass over the ledger.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._kept: tuple[str, ModelState] | None = None

    def replay(self, workspace: str, decision: Mapping[str, Any]) -> dict[str, Any]:
        """The decision made again, whether it is `identical`, and why not where it is unknown."""
        if decision["probability"] is None:
            return {
                "identical": None,
                "why": "a person was there: nothing was scored",
                "again": None,
            }
        with self._store.read() as connection:
            rows = conversation_rows.messages(
                connection, workspace, decision["conversation_id"], until=decision["seq"]
            )
        if len(rows) < decision["seq"]:
            return {"identical": None, "why": "its text was removed", "again": None}
        state = fold(conversation_rows.message_of(row) for row in rows)
        with self._lock:
            try:
                standing = self._stand(workspace, decision["position"])
            except TextRemovedError as error:
                return {"identical": None, "why": str(error), "again": None}
            again = compute_decision(standing, state)
        different = [name for name in _COMPARED if again[name] != decision[name]]
        found: dict[str, Any] = {"identical": not different, "why": None}
        if different and decision["build"] != build_id():
            why = f"another build ({decision['build']}) made it; this one is {build_id()}"
            found = {"identical": None, "why": why}
        elif different:
            found["why"] = f"differs in {', '.join(different)}"
        return found | {"again": {name: again[name] for name in _COMPARED}}

    def _stand(self, workspace: str, position: int) -> ModelState:
        kept = self._kept
        if kept is not None and kept[0] == workspace and kept[1].position <= position:
            standing = kept[1]
            with self._store.read() as connection:
                switches = entries.switches(connection, workspace, position)
            here = switches and switches[-1].position == standing.switch
            if here and not standing.half_learned:
                advance(self._store, workspace, standing, position)
                return standing
        standing = restore(self._store, workspace, until=position)
        self._kept = (workspace, standing)
        return standing
