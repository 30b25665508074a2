"""Simulated bots and agents as HTTP clients of Baton.

Bots score messages and act on the decision; agents claim handoffs, talk, return or resolve them
and give a verdict later; a share of the missed ones is complained of. Only the scoreboard compares
with the truth, which the simulation alone knows.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Any

from experiments.replay.client import BatonClient, path_of, score_request, turn_json
from experiments.simulation.arrival_schedule import EventSchedule
from experiments.simulation.scoreboard import Scoreboard
from experiments.simulation.world import Agent, Conversation, Verdict, World
from learning.conversation.state import Message
from learning.ledger.lessons import lessons

RETURNED = 0.1
"""Share of handoffs that their agent gives back to the bot."""

REVIEWED = 0.15
"""Share of kept conversations that a colleague reads over: the bot's successes teach, too."""

LEAVING = 8
"""Conversations in whose course one handoff or more is sure to come, to be left to a person."""


@dataclass(slots=True)
class _OpenConversation:
    """A conversation in play. `scored` are (message id, probability) since the last return."""

    conversation: Conversation
    name: str
    scored: list[tuple[str, float]] = field(default_factory=list)
    handed_over: bool = False


class SimulatedClients:
    """The bots and agents. Each thread has connections of its own, one for each key it needs."""

    def __init__(
        self, url: str, keys: Mapping[str, str], world: World, conversations: int, left: int = 0
    ) -> None:
        """`left`: so many of the last handoffs wait for whoever opens the console."""
        self.board = Scoreboard()
        self.schedule = EventSchedule(world, conversations, self._begin)
        self._left = left
        self._leaving_from = conversations - LEAVING * left
        self._world = world
        self._url = url
        self._keys = keys
        self._run = f"demo-{secrets.token_hex(3)}"
        self._own = threading.local()
        self._open = ExitStack()

    def close(self) -> None:
        self._open.close()

    def _client(self, name: str) -> BatonClient:
        clients: dict[str, BatonClient] = self._own.__dict__.setdefault("callers", {})
        if name not in clients:
            key = self._keys.get(name) or self._keys["agent"]
            clients[name] = self._open.enter_context(BatonClient(self._url, key))
        return clients[name]

    def _begin(self, number: int) -> None:
        conversation = self._world.conversation(number)
        open_ = _OpenConversation(conversation, f"{self._run}-{number}")
        self._converse(open_, conversation.next())

    def _converse(self, open_: _OpenConversation, turns: tuple[Message, ...] | None) -> None:
        while turns is not None and not open_.conversation.ended:
            decision = self._score(open_, turns)
            turns = self._obey(open_, decision)
        if turns is not None:
            self._close(open_, turns)

    def _score(self, open_: _OpenConversation, turns: tuple[Message, ...]) -> dict[str, Any]:
        message = turns[-1]
        body = score_request(open_.name, turns) | {"attributes": dict(message.attributes)}
        decision = self._client("bot").post("/v1/score", body)
        self.board.add_decision(decision, open_.conversation.labels[message.id])
        if decision["probability"] is not None:
            open_.scored.append((message.id, decision["probability"]))
        return decision

    def _obey(
        self, open_: _OpenConversation, decision: Mapping[str, Any]
    ) -> tuple[Message, ...] | None:
        """Act on the decision: the next turns; None where a person takes over."""
        conversation, handoff = open_.conversation, decision["handoff"]
        if decision["action"] == "offer":
            accepted = conversation.answer()
            if accepted is not None:
                path = path_of("decisions", decision["decision_id"], "answer")
                handoff = self._client("bot").post(path, {"accepted": accepted})["handoff"]
            if accepted:
                self.board.count("accepted")
        by_rule = any(trigger["kind"] != "model" for trigger in decision["triggers"])
        if handoff is None:
            return conversation.next("continue")
        conversation.next("escalate")
        open_.handed_over = True
        self.board.add_handoff(conversation.truth.needed)
        if self._left and conversation.number >= self._leaving_from:
            self._left -= 1
            self.board.add_ended(True, conversation.truth.needed)
            return None
        self.schedule.put(
            conversation.at + 60.0, lambda: self._serve(open_, handoff["id"], by_rule)
        )
        return None

    def _serve(self, open_: _OpenConversation, handoff: str, by_rule: bool) -> None:
        """An agent takes the handoff, talks to the customer, and resolves it or gives it back."""
        conversation = open_.conversation
        agent = self._world.agent(conversation.number)
        verdict = agent.verdict(conversation)
        # What a rule escalated teaches, too, but speaks neither for the model nor against it.
        scored = [] if by_rule else open_.scored
        client = self._client(agent.name)
        client.post(path_of("handoffs", handoff, "claim"), {})
        back = Random(f"{self._world.seed}/return/{conversation.id}").random() < RETURNED
        turns = conversation.serve(agent.name, returned=back)
        talk = [turn_json(turn) for turn in turns if turn.author == "agent"]
        client.post(path_of("conversations", open_.name, "messages"), {"messages": talk})
        client.post(path_of("handoffs", handoff, "return" if back else "resolve"), {})
        self.schedule.put(
            conversation.at + verdict.delay_seconds,
            lambda: self._judge(agent, handoff, verdict, scored),
        )
        open_.scored = []
        self._converse(open_, turns[-1:] if back else ())

    def _judge(
        self, agent: Agent, handoff: str, verdict: Verdict, scored: list[tuple[str, float]]
    ) -> None:
        body = verdict.body()
        self._client(agent.name).post(path_of("handoffs", handoff, "outcome"), body)
        self.board.add_outcome(verdict.verdict, _lessons(body, scored, escalated=True))

    def _close(self, open_: _OpenConversation, turns: tuple[Message, ...]) -> None:
        """The conversation is over; perhaps somebody complains of it later, or reads it over."""
        conversation, bot = open_.conversation, self._client("bot")
        if turns:
            new_messages = {"messages": [turn_json(turn) for turn in turns]}
            bot.post(path_of("conversations", open_.name, "messages"), new_messages)
        resolution = {"resolution": conversation.resolution}
        bot.post(path_of("conversations", open_.name, "close"), resolution)
        if not open_.handed_over:
            self.board.add_kept(conversation.number, conversation.truth.needed)
        after_seconds = self._world.comes_back_after(conversation)
        if after_seconds is not None and not open_.handed_over:
            self.schedule.put(
                conversation.at + after_seconds,
                lambda: self._converse(open_, conversation.come_back(after_seconds)),
            )
            return
        self.board.add_ended(open_.handed_over, conversation.truth.needed)
        if open_.handed_over:
            return
        complaint = self._world.complaint(conversation)
        if complaint is not None:
            due_at = conversation.at + complaint.delay_seconds
            self.schedule.put(due_at, lambda: self._post_outcome(open_, "bot", complaint.body()))
        elif Random(f"{self._world.seed}/read/{conversation.id}").random() < REVIEWED:
            agent = self._world.agent(conversation.number)
            review = agent.review(conversation)
            body = {k: v for k, v in review.body().items() if k != "team"} | {"source": "agent"}
            due_at = conversation.at + review.delay_seconds
            self.schedule.put(due_at, lambda: self._post_outcome(open_, agent.name, body))

    def _post_outcome(self, open_: _OpenConversation, who: str, body: Mapping[str, str]) -> None:
        self._client(who).post(path_of("conversations", open_.name, "outcome"), body)
        self.board.add_outcome(body["verdict"], _lessons(body, open_.scored, escalated=False))


def _lessons(
    body: Mapping[str, Any], scored: list[tuple[str, float]], *, escalated: bool
) -> list[tuple[float, float]]:
    """Lessons of an outcome as (probability when scored, label)."""
    places = {message_id: place for place, (message_id, _) in enumerate(scored, 1)}
    first = body.get("first_needed_message_id")
    entry = {
        "verdict": body["verdict"],
        "begins": 1,
        "covers": len(scored),
        "escalated": len(scored) if escalated else None,
        "since": places.get(first) if first else None,
    }
    return [(scored[x.seq - 1][1], x.label) for x in lessons(entry, places.values())]
