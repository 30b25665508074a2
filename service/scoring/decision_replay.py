"""Deterministic replay of a past decision: same text and ledger position, same bits."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from experiments.build_info import build_id
from learning.conversation.state import Message, State, fold, step
from learning.decision.words.own_phrases import with_own_phrases
from learning.ledger.model_state import ModelState, TextRemovedError
from service.scoring.decide import compute_decision
from service.store.conversations import conversation_rows
from service.store.database.transactions import Store
from service.store.ledger import entries
from service.versions.restore import advance, restore

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


def _first_unread(rows: Sequence[Any]) -> int:
    """Where the customer's turns begin that came without a decision directly before the last."""
    first = len(rows) - 1
    while first > 0:
        row = rows[first - 1]
        unread = row.author == "user" and not row.scored and row.removed is None
        if not unread and row.event != "ignored":
            break
        first -= 1
    return first


class DecisionReplay:
    """Restores the model at past positions, outside the engine. The last model state is cached:
    decisions replayed in their order cost one pass over the ledger.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._cached: tuple[str, ModelState] | None = None

    def replay(self, workspace: str, decision: Mapping[str, Any]) -> dict[str, Any]:
        """The decision replayed (`again`), whether it is `identical`, and `why` where it differs or
        cannot be replayed.
        """
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
        if any((row.removed or 0) > decision["position"] for row in rows):
            why = "the customer removed words that it was made of"
            return {"identical": None, "why": why, "again": None}
        messages = [conversation_rows.message_of(row) for row in rows]
        first = _first_unread(rows)
        state = fold(messages[:first])
        turns: list[tuple[State, Message]] = []
        for message in messages[first:]:
            state = step(state, message)
            turns.append((state, message))
        with self._lock:
            try:
                model_state = self._state_at(workspace, decision["position"])
            except TextRemovedError as error:
                return {"identical": None, "why": str(error), "again": None}
            phrases = model_state.policy.phrases
            unread = [
                with_own_phrases(phrases, *turn) for turn in turns[:-1] if turn[1].author == "user"
            ]
            held_out = decision["held_out"]
            replayed = compute_decision(model_state, *turns[-1], unread, held_out=held_out)
        different = [name for name in _COMPARED if replayed[name] != decision[name]]
        result: dict[str, Any] = {"identical": not different, "why": None}
        if different and decision["build"] != build_id():
            why = f"another build ({decision['build']}) made it; this one is {build_id()}"
            result = {"identical": None, "why": why}
        elif different and model_state.provisional:
            why = "a provisional model made it, before the line was learned anew"
            result = {"identical": None, "why": why}
        elif different:
            result["why"] = f"differs in {', '.join(different)}"
        return result | {"again": {name: replayed[name] for name in _COMPARED}}

    def _state_at(self, workspace: str, position: int) -> ModelState:
        cached = self._cached
        if cached is not None and cached[0] == workspace and cached[1].position <= position:
            model_state = cached[1]
            with self._store.read() as connection:
                switches = entries.switches(connection, workspace, position)
            same_line = switches and switches[-1].position == model_state.switch
            if same_line and not model_state.half_learned:
                with suppress(TextRemovedError):  # `restore` finds the version saved past it
                    return advance(self._store, workspace, model_state, position)
        model_state = restore(self._store, workspace, until=position)
        self._cached = (workspace, model_state)
        return model_state
