"""Simulated customers of a shadow workspace, many at a time, with the truth told afterwards.

The bot is left alone, whatever Baton says: the same conversations for every line, and a known
truth for each of their messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from experiments.simulation.world import Conversation, World, WorldSettings
from learning.conversation.state import Message
from tests.service_in_process import Caller, Place

AT_ONCE = 64
Truth = Callable[[Conversation], dict[str, float]]


def truth(conversation: Conversation) -> dict[str, float]:
    return {name: float(label) for name, label in conversation.labels.items()}


def forged(conversation: Conversation) -> dict[str, float]:
    """The opposite of what was true."""
    return {name: 1.0 - float(label) for name, label in conversation.labels.items()}


class Town:
    """Plays conversations of one world into a place, in their order."""

    def __init__(self, place: Place, seed: int = 0, **settings: Any) -> None:
        self.place = place
        self.world = World(seed, WorldSettings(**settings))
        self.begun = 0

    def play(
        self, count: int, *, told: Truth = truth, by: Caller | None = None, close: bool = True
    ) -> None:
        """The next so many conversations, and their labels, by a key of an engineer or above."""
        for start in range(self.begun, self.begun + count, AT_ONCE):
            last = min(start + AT_ONCE, self.begun + count)
            conversations = [self.world.conversation(n) for n in range(start, last)]
            self._converse(conversations)
            for one in conversations:
                if close:
                    body = {"resolution": one.resolution}
                    self.place.bot.posted(f"/v1/conversations/{one.id}/close", body)
                labels = [{"message_id": m, "label": y} for m, y in told(one).items()]
                path = f"/v1/conversations/{one.id}/outcome"
                (by or self.place.engineer).posted(path, {"labels": labels})
        self.begun += count

    def _converse(self, conversations: list[Conversation]) -> None:
        waiting = [(one, one.next()) for one in conversations]
        while waiting:
            items = [_item(one, turns) for one, turns in waiting]
            found = self.place.bot.posted("/v1/score/batch", {"items": items})["results"]
            assert all("action" in one for one in found), found
            after = [(one, one.next()) for one, _ in waiting]
            waiting = [(one, turns) for one, turns in after if not one.ended]


def _item(one: Conversation, turns: tuple[Message, ...]) -> dict[str, Any]:
    *history, message = turns
    return {
        "conversation_id": one.id,
        "message": {"id": message.id, "text": message.text, "language": message.language},
        "bot": _report(message),
        "history": [
            {"id": m.id, "author": m.author, "text": m.text, "bot": _report(m)} for m in history
        ],
        "attributes": dict(message.attributes),
    }


def _report(message: Message) -> dict[str, Any] | None:
    if message.bot is None:
        return None
    fields = ("intent", "confidence", "fallback", "tool_error", "attempt")
    return {name: getattr(message.bot, name) for name in fields}
